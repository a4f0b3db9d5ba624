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

// misleading is what a developer's environment may hold.
var misleading = []string{
	"STRIPE_API_KEY=sk_live_1234567890", "STRIPE_URL=http://127.0.0.1:1", "LISTEN=127.0.0.1:1", "ADMIN_LISTEN=127.0.0.1:1",
	"FAKESTRIPE_LISTEN=127.0.0.1:1", "FAKESTRIPE_DATA=/nowhere", "PGSERVICE=nowhere", "PGHOST=nowhere",
}

func TestWhatIsKilledComesBackAtItsAddress(t *testing.T) {
	t.Parallel()
	b := start(t, folder(t), anywhere, append(misleading, "MAX_FARE=2350")...)
	before := b.state
	ready := map[string]string{
		"api": before.AdminURL + "/readyz", "completer": before.CompleterAdminURL + "/readyz",
		"fakestripe": before.StripeURL + "/_fake/healthz", "postgres": before.AdminURL + "/readyz",
	}
	// The API tells when the database is back, and goes last.
	for _, name := range []string{"fakestripe", "completer", "postgres", "api"} {
		processes := b.processes(t)
		if err := syscall.Kill(processes[name], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		eventually(t, name+" has ended", func() bool { return !runs(t, processes[name]) })
		eventually(t, name+" answers again", func() bool { return get(t, ready[name]).status == http.StatusOK })
		t.Logf("%s answered again after %s", name, time.Since(killed).Round(time.Millisecond))
		eventually(t, "sandbox.json has its process", func() bool { return b.read(t) && b.processes(t)[name] != processes[name] })
		if got := b.hail(t, 0, "after-"+name); got.status != http.StatusCreated {
			t.Errorf("after the end of %s a ride is answered with %d %s", name, got.status, got.body)
		}
	}
	after := b.state
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
	// A setting from the environment counts: this ride costs more than
	// MAX_FARE.
	far := ask(t, http.MethodPost, b.state.APIURL+"/v1/rides", `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":38,"lon":-122.2712}}`,
		http.Header{"Authorization": {"Bearer " + b.state.Accounts[0].APIKey}, "Idempotency-Key": {"far"}, "Content-Type": {"application/json"}})
	if far.status != http.StatusUnprocessableEntity {
		t.Errorf("a ride beyond MAX_FARE is answered with %d %s", far.status, far.body)
	}
}

func TestKillMinus9OfTheSandboxLeavesNoChild(t *testing.T) {
	t.Parallel()
	data := folder(t)
	first := start(t, data, anywhere)
	paid := first.hail(t, 0, "kept")
	processes := first.processes(t)
	first.stop(t, syscall.SIGKILL)
	second := start(t, data, first.fixed())
	database := processes["postgres"]
	delete(processes, "postgres") // it may live on; the second one has dealt with it
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
			t.Errorf("%s is left", name)
		}
	}
}

// What ends the children where there is no parent-death signal.
func TestAChildEndsWithItsTether(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"fakestripe", "bogus"} {
		tether, err := newTether()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(ctx, os.Args[0], childArgument, name, "--listen", "127.0.0.1:0")
		child.Env = append(os.Environ(), asMain+"=1")
		child.ExtraFiles = []*os.File{tether.child}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// The fake says that it listens; what there is no such child for ends.
		_, _ = out.Read(make([]byte, 1))
		tether.cut()
		if err := child.Wait(); err == nil || child.ProcessState.ExitCode() < 1 {
			t.Errorf("%s ended with %v, want an exit code", name, err)
		}
	}
}

// A program that ends by itself is started again and again, ever more slowly,
// and its end stops the loop at once.
func TestALoopOfCrashesBacksOffAndGoesOn(t *testing.T) {
	t.Parallel()
	tether, err := newTether()
	if err != nil {
		t.Fatal(err)
	}
	defer tether.cut()
	var log buffer
	starts := make(chan time.Time, 100)
	c := launch(t.Context(), program{
		name: "api", args: []string{"--bogus"}, env: append(os.Environ(), asMain+"=1"), grace: time.Minute,
		ready: "http://127.0.0.1:1",
	}, tether, &transcript{w: &log}, func(string, int) { starts <- time.Now() })
	if err := c.awaitReady(t.Context()); err == nil {
		t.Error("it is ready, and never was")
	}
	next := func() time.Time {
		select {
		case at := <-starts:
			return at
		case <-time.After(patience):
			t.Fatal("it is not started again")
			return time.Time{}
		}
	}
	begun := next()
	for _, delay := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		again := next()
		if again.Sub(begun) < delay {
			t.Errorf("it was started again after %s, want a pause of at least %s", again.Sub(begun), delay)
		}
		begun = again
	}
	c.stop(t.Context())
	if backoff(0) > time.Second || backoff(1000) != 10*time.Second {
		t.Errorf("the first pause is %s, the longest is %s", backoff(0), backoff(1000))
	}
}
