package sandbox

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// otherSettings are variables that a developer may have set for other programs.
// The sandbox ignores them.
var otherSettings = []string{
	"STRIPE_API_KEY=sk_live_1234567890", "STRIPE_URL=http://127.0.0.1:1", "LISTEN=127.0.0.1:1", "ADMIN_LISTEN=127.0.0.1:1",
	"FAKESTRIPE_LISTEN=127.0.0.1:1", "FAKESTRIPE_DATA=/nowhere", "DATABASE_URL_FILE=/nowhere", "STRIPE_API_KEY_FILE=/nowhere", "PGSERVICE=nowhere", "PGHOST=nowhere",
}

func TestKilledProcessIsRestartedOnItsAddress(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t), freePorts, append(otherSettings, "MAX_FARE=2350")...)
	before := p.state
	ready := map[string]string{
		"api": before.AdminURL + "/readyz", "completer": before.CompleterAdminURL + "/readyz",
		"fakestripe": before.StripeURL + "/_fake/healthz", "postgres": before.AdminURL + "/readyz",
	}
	// The API is last: its /readyz says when the database is back.
	for _, name := range []string{"fakestripe", "completer", "postgres", "api"} {
		processes := p.processes(t)
		if err := syscall.Kill(processes[name], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		eventually(t, name+" has ended", func() bool { return !runs(t, processes[name]) })
		eventually(t, name+" answers again", func() bool { return get(t, ready[name]).status == http.StatusOK })
		t.Logf("%s answered again after %s", name, time.Since(killed).Round(time.Millisecond))
		// The address answers a little before sandbox.json is written.
		eventually(t, "sandbox.json has its process", func() bool {
			if !p.read(t) {
				return false
			}
			running, missing := p.running(t)
			return missing == "" && running[name] != processes[name]
		})
		if got := p.hail(t, 0, "after-"+name); got.status != http.StatusCreated {
			t.Errorf("after the end of %s a ride is answered with %d %s", name, got.status, got.body)
		}
	}
	after := p.state
	if after.PIDs.API == before.PIDs.API || after.PIDs.Completer == before.PIDs.Completer || after.PIDs.Postgres == before.PIDs.Postgres {
		t.Errorf("sandbox.json has the processes %+v, before %+v", after.PIDs, before.PIDs)
	}
	after.PIDs = before.PIDs
	for _, pair := range [][2]string{
		{before.APIURL, after.APIURL},
		{before.AdminURL, after.AdminURL},
		{before.CompleterAdminURL, after.CompleterAdminURL},
		{before.StripeURL, after.StripeURL},
		{before.DatabaseURL, after.DatabaseURL},
	} {
		if pair[0] != pair[1] {
			t.Errorf("an address was %s and is %s", pair[0], pair[1])
		}
	}
	// MAX_FARE comes from the environment; this ride costs more.
	far := ask(t, http.MethodPost, p.state.APIURL+"/v1/rides", `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":38,"lon":-122.2712}}`,
		http.Header{"Authorization": {"Bearer " + p.state.Accounts[0].APIKey}, "Idempotency-Key": {"far"}, "Content-Type": {"application/json"}})
	if far.status != http.StatusUnprocessableEntity {
		t.Errorf("a ride beyond MAX_FARE is answered with %d %s", far.status, far.body)
	}
}

func TestKill9OfTheSandboxLeavesNoChild(t *testing.T) {
	t.Parallel()
	data := folder(t)
	first := start(t, data, freePorts)
	paid := first.hail(t, 0, "kept")
	processes := first.processes(t)
	first.stop(t, syscall.SIGKILL)
	second := start(t, data, first.fixed())
	database := processes["postgres"]
	delete(processes, "postgres") // it may have gone on until the second sandbox stopped it
	checkNothingRuns(t, processes)
	again := second.hail(t, 0, "kept")
	if again.body != paid.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after kill -9 the ride is answered with %v, want a replay of %s", again, paid.body)
	}
	processes = second.processes(t)
	if code := second.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends it with exit code %d", code)
	}
	processes["postgres of the first"] = database
	for name, pid := range processes {
		if runs(t, pid) {
			t.Errorf("%s still runs", name)
		}
	}
}

// The parent pipe is what ends the children on systems other than Linux.
func TestChildEndsWithTheParentPipe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"fakestripe", "bogus"} {
		childEnd, parentEnd, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(ctx, os.Args[0], childArgument, name, "--listen", "127.0.0.1:0")
		child.Env = append(os.Environ(), asMain+"=1")
		child.ExtraFiles = []*os.File{childEnd}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// The fake logs that it listens. Since there is no child bogus, that
		// ends by itself.
		_, _ = out.Read(make([]byte, 1))
		_, _ = childEnd.Close(), parentEnd.Close()
		if err := child.Wait(); err == nil || child.ProcessState.ExitCode() < 1 {
			t.Errorf("%s ended with %v, want an exit code", name, err)
		}
	}
}
