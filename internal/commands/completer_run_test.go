package commands

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

func TestCompleterOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 20})
	api := s.start(t, "api")
	for i := range 20 {
		if a := s.hail(api, fmt.Sprint("k", i)); a.status != 503 {
			t.Fatalf("got %d %v", a.status, a.err)
		}
	}
	if _, err := s.pool.Exec(t.Context(), `UPDATE idempotency_keys SET run_after = now()`); err != nil {
		t.Fatal(err)
	}
	if got, want := s.must(t, "completer", "once"), "finished 20, released 0, parked 0, taken by others 0, reaped 0, deleted 0\n"+
		"events: worked 0, released 0; payment intents closed 0\njobs: relayed 20, delivered 20, failed 0\n"; got != want {
		t.Errorf("it printed %q, want %q", got, want)
	}
	if got, want := s.must(t, "completer", "once", "--json"), `{"finished":0,"released":0,"parked":0,"lost":0,"reaped":0,"deleted":0,"waiting":0,`+
		`"events":{"worked":0,"released":0,"closed":0,"reaped":0},"jobs":{"relayed":0,"delivered":0,"failed":0,"dead":0}}`+"\n"; got != want {
		t.Errorf("it printed %q, want %q", got, want)
	}
	s.checkCharges(t)
	if got := s.must(t, "completer", "once", "--retention=1ms"); !strings.HasPrefix(got, "finished 0, released 0, parked 0, taken by others 0, reaped 20") {
		t.Errorf("it printed %q", got)
	}
	if a := s.hail(api, "k0"); a.status != 422 || !strings.Contains(a.body, "idempotency_key_expired") {
		t.Errorf("a reaped key gives %d %s", a.status, a.body)
	}
}

// leaveUnfinished has an API lose the answer to a charge, and makes the key due.
func (s *scene) leaveUnfinished(t *testing.T, api *process, key string) {
	t.Helper()
	if a := s.hail(api, key); a.status != http.StatusServiceUnavailable {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	s.exec(t, `UPDATE idempotency_keys SET run_after = now() WHERE key = $1`, key)
}

// Who has a round done from cron gets rides and receipts also while events can't
// be worked, and receipts also with a key that may not ask Stripe.
func TestARoundGoesOnAfterTrouble(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	api := s.start(t, "api")
	s.leaveUnfinished(t, api, "k")
	s.exec(t, `ALTER TABLE stripe_events RENAME TO elsewhere`)
	code, stdout, stderr := s.run(t, "completer", "once")
	if code != 1 || !strings.HasPrefix(stdout, "finished 1, ") || !strings.Contains(stdout, "delivered 1, ") || !strings.Contains(stderr, `"stripe_events" does not exist`) {
		t.Errorf("without events: exit %d, %s%s", code, stdout, stderr)
	}
	s.exec(t, `ALTER TABLE elsewhere RENAME TO stripe_events`)
	if a := s.hail(api, "k2"); a.status != http.StatusCreated {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	code, stdout, stderr = s.run(t, "completer", "once", "--stripe-api-key=sk_test_other")
	if code != 1 || !strings.Contains(stdout, "delivered 1, ") || !strings.Contains(stderr, "api stripe-account --move") {
		t.Errorf("with another account's key: exit %d, %s%s", code, stdout, stderr)
	}
}

// A signal ends a round as it ends a daemon: what doesn't end in time is
// released, due at once. The counts are printed all the same.
func TestASignalEndsARound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore}, fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	s.leaveUnfinished(t, s.start(t, "api"), "k")
	settings := []string{"STRIPE_TIMEOUT=2m", "LEASE=10m", "SHUTDOWN_TIMEOUT=1s"}
	once := exec.CommandContext(t.Context(), os.Args[0], "once")
	once.Env = append(s.environment("completer"), settings...)
	var stdout, stderr bytes.Buffer
	once.Stdout, once.Stderr = &stdout, &stderr
	if err := once.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitForStripe(t, 2)
	if err := once.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_ = once.Wait()
	if took := time.Since(begun); took > time.Minute { // half of Stripe's time-out
		t.Errorf("it went on for %s", took)
	}
	if code := once.ProcessState.ExitCode(); code != 1 || !strings.HasPrefix(stdout.String(), "finished 0, released 1, ") ||
		!strings.HasSuffix(stderr.String(), "\ncompleter: "+errRoundEnded.Error()+"\n") {
		t.Errorf("exit %d, %s%s", code, &stdout, &stderr)
	}
	close(gate)
	s.start(t, "completer", settings...) // it need not wait for the end of the lease
	s.waitForCharge(t, "k", 30*time.Second)
}
