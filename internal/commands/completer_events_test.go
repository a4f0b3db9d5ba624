package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// deliver sends an event of the fake Stripe's to an api, and returns the status
// of the answer.
func (s *scene) deliver(t *testing.T, api *process, id, shape, forgery string) int {
	t.Helper()
	body, signature, err := s.fake.SignedEvent(id, shape, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, api.api+"/v1/stripe/events", bytes.NewReader(append(body, forgery...)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Stripe-Signature", signature)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// payLate declines the ride of key k and pays it after all.
func (s *scene) payLate(t *testing.T, api *process) {
	t.Helper()
	s.addAccount(t, "declined", "pm_card_chargeCustomerFail")
	if got := s.hail(api, "k"); got.status != http.StatusPaymentRequired {
		t.Fatalf("%d %s", got.status, got.body)
	}
	s.payAfterAll(t, "k")
}

// payAfterAll pays the declined ride of a key at Stripe, with another card.
func (s *scene) payAfterAll(t *testing.T, key string) {
	t.Helper()
	intent := text(t, s, `SELECT payment_intent_id FROM rides WHERE key = $1`, key)
	s.post(t, "/v1/payment_intents/"+intent+"/confirm", "payment_method=pm_card_visa")
}

// eventsAreDue lets the moment pass for which a new event is left alone.
func (s *scene) eventsAreDue(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE stripe_events SET run_after = now() WHERE worked_at IS NULL`)
}

// An event that an api has taken is listed, worked by the completer, and listed
// with what came of it.
func TestCompleterEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	if got := s.hail(api, "k"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	event := s.fake.Events()[0]
	for shape, forgery := range map[string]string{"snapshot": "", "thin": ""} {
		if got := s.deliver(t, api, event.ID, shape, forgery); got != http.StatusOK {
			t.Errorf("a %s event is answered with %d", shape, got)
		}
	}
	if got := s.deliver(t, api, event.ID, "thin", " "); got != http.StatusBadRequest {
		t.Errorf("a forged event is answered with %d", got)
	}
	if got := s.must(t, "completer", "events", "list", "--waiting"); len(regexp.MustCompile(`(?m)^.* payment_intent.succeeded +pi_\w+ +evt_\w+ +1 +due `).FindAllString(got, -1)) != 2 {
		t.Errorf("events list prints %s", got)
	}
	s.eventsAreDue(t)
	if got := s.must(t, "completer", "once"); !strings.Contains(got, "events: worked 1, released 0; payment intents closed 0\n") {
		t.Errorf("once prints %s", got)
	}
	var listed []rides.StoredEvent
	if err := json.Unmarshal([]byte(s.must(t, "completer", "events", "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	for _, e := range listed {
		if e.Outcome == nil || *e.Outcome != "nothing_new" || *e.Account != s.account || *e.Ride == "" || e.WorkedAt == nil || e.ObjectID != event.ObjectID {
			t.Errorf("an event is listed as %+v", e)
		}
	}
	if got := s.must(t, "completer", "events", "list", "--json", "--waiting"); len(listed) != 2 || got != "[]\n" {
		t.Errorf("%d events are listed, and waiting are %s", len(listed), got)
	}
	if code, _, stderr := s.run(t, "completer", "events", "list", "--limit=0"); code != 2 {
		t.Errorf("--limit=0 exits with %d: %s", code, stderr)
	}
}

// No event has come. A sweep finds what Stripe did all the same, and a second
// one finds nothing more to do.
func TestCompleterSweepsEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	s.addAccount(t, "declined", "pm_card_chargeCustomerFail")
	for _, key := range []string{"paid-after-all", "declined-for-good"} {
		if got := s.hail(api, key); got.status != http.StatusPaymentRequired {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	s.exec(t, `DELETE FROM open_intents`) // as the release before left them
	s.payAfterAll(t, "paid-after-all")
	got := s.must(t, "completer", "events", "sweep")
	if want := "of 30 days: 2 payment intents, 0 refunds or disputes; 2 looked at, worked 2, released 0; payment intents closed 1\n"; got != want {
		t.Errorf("the sweep prints %s, want %s", got, want)
	}
	const given = `SELECT concat_ws(' ', status, refund_status, refund_amount) FROM rides WHERE key = $1`
	if got := text(t, s, given, "paid-after-all"); got != "declined succeeded 2350" {
		t.Errorf("the ride that was paid is %s", got)
	}
	var counts rides.SweepCounts
	if err := json.Unmarshal([]byte(s.must(t, "completer", "events", "sweep", "--json")), &counts); err != nil {
		t.Fatal(err)
	}
	if counts.Intents != 2 || counts.Others != 1 || counts.Found != 1 || counts.Closed != 0 {
		t.Errorf("the second sweep did %+v", counts)
	}
	if refunds := s.fake.Refunds(); len(refunds) != 1 || refunds[0].Amount != 2350 {
		t.Errorf("Stripe has the refunds %+v", refunds)
	}
	end := s.outage(t)
	if code, _, stderr := s.run(t, "completer", "events", "sweep"); code != 1 {
		t.Errorf("while Stripe can't be asked a sweep exits with %d: %s", code, stderr)
	}
	end()
	if code, _, stderr := s.run(t, "completer", "events", "sweep", "--stripe-api-key="); code != 2 {
		t.Errorf("without Stripe's key a sweep exits with %d: %s", code, stderr)
	}
	s.audit(t, 0)
}

// An api and a completer as daemons: an event that comes is worked soon, and
// what it tells is given back.
func TestCompleterWorksEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	s.payLate(t, api)
	for _, e := range s.fake.Events() {
		if got := s.deliver(t, api, e.ID, "thin", ""); got != http.StatusOK {
			t.Errorf("%s is answered with %d", e.Type, got)
		}
	}
	completer := s.start(t, "completer")
	waitFor(t, "the payment is given back", 20*time.Second, func() bool {
		return number(t, s, `SELECT count(*) FROM rides WHERE refund_status = 'succeeded'`) == 1
	})
	waitFor(t, "the figures are there", 30*time.Second, func() bool {
		_, body := fetch(t, completer.admin+"/metrics")
		return strings.Contains(body, "rides_late_successes_total 1\n") && strings.Contains(body, "rides_stripe_events_oldest_seconds ")
	})
	if _, body := fetch(t, api.admin+"/metrics"); !strings.Contains(body, `rides_stripe_events_received_total{result="stored"} 2`) {
		t.Errorf("the api counts no events: %s", body)
	}
}

// A completer ends in time while Stripe doesn't answer about an event, nor a
// cancel, and another one goes on with both at once.
func TestSIGTERMReleasesEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	defer release()
	s.fake.Script(
		fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Method: "GET", Path: "/v1/charges/ch_1"}},
		fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Path: "/v1/payment_intents/pi_1/cancel"}},
	)
	if _, err := s.pool.Exec(t.Context(), `
		INSERT INTO stripe_events (id, type, object, object_id, livemode) VALUES ('evt_1', 'charge.refunded', 'charge', 'ch_1', false)`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), `
		INSERT INTO open_intents (account_id, intent_id, ride_id, operation, livemode) VALUES ($1, 'pi_1', 'ride_1', 'operation', false)`, s.account); err != nil {
		t.Fatal(err)
	}
	settings := []string{"STRIPE_TIMEOUT=40s", "SHUTDOWN_TIMEOUT=2s"}
	completer := s.start(t, "completer", settings...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.fake.WaitSends(ctx, 2, func(send fakestripe.Send) bool { return strings.Contains(send.Path, "_1") }); err != nil {
		t.Fatal(err)
	}
	completer.signal(t, syscall.SIGTERM)
	select {
	case <-completer.done:
	case <-time.After(20 * time.Second): // half of Stripe's time-out
		t.Fatal("the completer goes on")
	}
	if code := completer.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	release()
	s.start(t, "completer", settings...)
	waitFor(t, "another completer works both", 20*time.Second, func() bool {
		return number(t, s, `SELECT (SELECT count(*) FROM stripe_events WHERE worked_at IS NULL) + (SELECT count(*) FROM open_intents)`) == 0
	})
}

// A sweep ends in time while Stripe doesn't answer a late refund, and releases
// that, due at once.
func TestSIGTERMReleasesWhatASweepRefunds(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.payLate(t, s.start(t, "api"))
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	defer release()
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Match: fakestripe.Match{Method: "POST", Path: "/v1/refunds"}})
	sweep := exec.CommandContext(t.Context(), os.Args[0], "events", "sweep")
	sweep.Env = append(s.environment("completer"), "STRIPE_TIMEOUT=40s", "LEASE=10m")
	if err := sweep.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sweep.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.fake.WaitSends(ctx, 1, func(send fakestripe.Send) bool { return send.Method == http.MethodPost && send.Path == "/v1/refunds" }); err != nil {
		t.Fatal(err)
	}
	if err := sweep.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a sweep that a signal has ended exits with 0")
		}
	case <-time.After(20 * time.Second): // half of Stripe's time-out
		t.Fatal("the sweep goes on")
	}
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys WHERE flow = 'refund_late' AND lease_token IS NULL AND run_after <= now()`); n != 1 {
		t.Errorf("%d late refunds are due, want 1", n)
	}
}
