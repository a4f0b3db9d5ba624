package commands

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/audit"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// history returns the history of a key, as JSON and as text, which say the
// same.
func (s *scene) history(t *testing.T, key string, flags ...string) (entries []audit.Entry, said string) {
	t.Helper()
	args := append([]string{"history", key}, flags...)
	if err := json.Unmarshal([]byte(s.must(t, "completer", append(args, "--json")...)), &entries); err != nil {
		t.Fatal(err)
	}
	said = s.must(t, "completer", args...)
	if lines := strings.Count(said, "\n"); lines != 1+len(entries) {
		t.Errorf("%d lines for %d entries:\n%s", lines, len(entries), said)
	}
	if !slices.IsSortedFunc(entries, func(a, b audit.Entry) int { return a.At.Compare(b.At) }) {
		t.Errorf("the entries are not in the order of time:\n%s", said)
	}
	for i, e := range entries {
		if slices.Contains(entries[:i], e) {
			t.Errorf("it tells of %q twice:\n%s", e.What, said)
		}
		if len([]rune(e.What)) > 300 || strings.ContainsAny(e.What, "\n\t") {
			t.Errorf("an entry is not short, or not on one line: %q", e.What)
		}
	}
	for _, secret := range []string{s.apiKey, s.secret, "hidden", "whsec_", "sk_test_"} {
		if strings.Contains(said, secret) {
			t.Errorf("it shows %s:\n%s", secret, said)
		}
	}
	return entries, said
}

// tells fails the test unless a history has parts, in this order.
func tells(t *testing.T, said string, parts ...string) {
	t.Helper()
	rest := said
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("it doesn't tell of %q, or not in this order:\n%s", part, said)
			return
		}
		rest = after
	}
}

// A ride that was charged, told of, canceled, and about which Stripe sent an
// event. Each of its two keys has the whole story.
func TestHistoryOfACanceledRide(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	receiver := newTold(t)
	api := s.start(t, "api", "CALLBACK_ALLOW=127.0.0.0/8")
	if got := s.hailTo(api, "k", receiver.URL+"/hook?token=hidden"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := s.cancel(t, api, "k", "c"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, e := range s.fake.Events() {
		if e.Type == "charge.refunded" {
			for range 2 {
				if status := s.deliver(t, api, e.ID, "snapshot", ""); status != http.StatusOK {
					t.Fatalf("the event was answered with %d", status)
				}
			}
		}
	}
	s.eventsAreDue(t)
	s.must(t, "completer", "once", "--callback-allow=127.0.0.0/8")
	s.exec(t, `INSERT INTO audit_records (account_id, id, action, data)
		SELECT $1, 'aud_retried', 'job.retried', jsonb_build_object('job', args ->> 'id', 'kind', 'receipt', 'by', 'ann')
		FROM river.river_job WHERE args ->> 'key' = 'k' LIMIT 1`, s.account)
	s.exec(t, `INSERT INTO stripe_events (id, type, object, object_id, livemode, owner_id, ride_id, last_error)
		SELECT 'evt_' || n, 'charge.updated', 'charge', 'ch_1', false, account_id, id, word
		FROM rides, (VALUES (1, 'waits_for_its_key'), (2, 'reading ch_1: timeout')) AS waiting (n, word)`)
	_, said := s.history(t, "k")
	tells(t, said, "charge.updated, evt_1, waits: waits for its key", "charge.updated, evt_2, waits: reading ch_1: timeout")
	tells(t, said, " was staged as job 1")
	tells(t, said, "POST /v1/rides began the flow hail", `"callback_url":"http://127.0.0.1:`, "its call to Stripe was frozen",
		"answered with 201", "/cancel began the flow cancel", "(key c)", "answered with 200",
		"Stripe sent charge.refunded", ", 2 times", "now: ride_", " is canceled, 2350 usd")
	for _, part := range []string{
		"ride.created", "job.retried: by ann, job job_", "receipt job_", "callback job_", " was worked at attempt 1", "ride.charged, msg_", "ride.canceled, msg_",
		" is delivered at attempt 1: the receiver answered 200", "was worked: ", "refund re_",
	} {
		tells(t, said, part)
	}
	ofCancel, _ := s.history(t, "c", "--account="+s.account)
	if ofHail, _ := s.history(t, "k"); len(ofCancel) != len(ofHail) {
		t.Errorf("the cancel's key has %d entries, and the hail's %d", len(ofCancel), len(ofHail))
	}
}

// A key that was parked, and that a person resolved; then it was reaped.
func TestHistoryOfAParkedKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, situation{})
	d.fault("k", fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
	d.hails(t, "k", http.StatusConflict)
	_, said := d.history(t, "k")
	tells(t, said, "began the flow hail", "key.parked: reason stripe_mismatch", "now: at ride_created after attempt 1, parked for stripe_mismatch")
	intent, _, _ := d.charged("k")
	if code, said := d.operate(t, d.stripeURL, "keys", "resolve", "k", "--charged="+intent, "--by=ann"); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	_, said = d.history(t, "k")
	tells(t, said, "key.parked: reason stripe_mismatch", "key.resolved: by ann, decision charged "+intent, "answered with 201")

	d.exec(t, `UPDATE idempotency_keys SET finished_at = now() - interval '4 days'`)
	if code, said := d.operate(t, d.stripeURL, "once"); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	_, said = d.history(t, "k")
	tells(t, said, "reaped: its parameters and its answer are gone")
	d.exec(t, `DELETE FROM idempotency_keys`)
	_, said = d.history(t, "k")
	tells(t, said, "key.resolved", "now: ride_", " is charged")
}

func TestHistoryNeedsOneKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, situation{})
	d.hails(t, "k", http.StatusCreated)
	first := d.account
	d.addAccount(t, "second", "pm_card_visa")
	d.hails(t, "k", http.StatusCreated)
	if code, _, stderr := d.run(t, "completer", "history", "k"); code != 1 || !strings.Contains(stderr, "choose one with --account") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, said := d.history(t, "k", "--account="+first); strings.Contains(said, d.account) {
		t.Errorf("it tells of another account:\n%s", said)
	}
	for _, args := range [][]string{{"history", "none"}, {"history", "none", "--account=" + first}} {
		if code, _, stderr := d.run(t, "completer", args...); code != 1 || !strings.Contains(stderr, `"none"`) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}
