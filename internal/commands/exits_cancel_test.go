package commands

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// cancelExits are the commands by which an operator may end a parked cancel.
func cancelExits(key, refund string) map[string][]string {
	const unverified, why = "--unverified", "--reason=Stripe can't be asked"
	resolve := []string{"keys", "resolve", key}
	return map[string][]string{
		"retry":                    {"keys", "retry", key},
		"refunded":                 append(resolve[:3:3], "--refunded="+refund),
		"not refunded":             append(resolve[:3:3], "--not-refunded"),
		"refunded, unverified":     append(resolve[:3:3], "--refunded="+refund, unverified, why),
		"not refunded, unverified": append(resolve[:3:3], "--not-refunded", unverified, why),
		"not charged":              append(resolve[:3:3], "--not-charged"),
	}
}

// A cancelSituation is one way in which a cancel comes to be parked.
type cancelSituation struct {
	reason, story string
	// fault strikes the refund, and before happens at Stripe before a client asks
	// until the key is parked.
	fault  fakestripe.Fault
	before func(t *testing.T, d *desk, key string)
	asked  map[string]string // what each exit does that isn't refused
}

func cancelSituations() []cancelSituation {
	const back, kept = "200", "409"
	trusted := func(more ...string) map[string]string {
		all := map[string]string{"retry": "parked", "refunded, unverified": back, "not refunded, unverified": kept}
		for i := 0; i+1 < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	return []cancelSituation{
		{"operator", "refunded, and the answer lost", fakestripe.Fault{Kind: fakestripe.DropAfter}, parkCancel, trusted("retry", back, "refunded", back)},
		{"operator", "never sent", fakestripe.Fault{Kind: fakestripe.DropBefore}, parkCancel, trusted("retry", back, "not refunded", kept)},
		{
			"stripe_mismatch", "the answer is in another currency",
			fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"currency": "eur"}},
			nil,
			trusted("retry", back, "refunded", back),
		},
		{"stripe_500", "saved by Stripe, without effect", fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect}, endPatience, trusted("not refunded", kept)},
		{"stripe_400", "saved by Stripe", fakestripe.Fault{Kind: fakestripe.Saved400}, nil, trusted("not refunded", kept)},
		{"window_over", "still pending", fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending"}, endCancelWindow, trusted()},
		{"window_over", "no send left a trace", fakestripe.Fault{Kind: fakestripe.DropBefore}, endCancelWindow, trusted("not refunded", kept)},
	}
}

func parkCancel(t *testing.T, d *desk, key string) {
	t.Helper()
	d.parkByHand(t, key)
}

func endPatience(t *testing.T, d *desk, key string) {
	t.Helper()
	d.exec(t, `UPDATE idempotency_keys SET find_until = now() WHERE key = $1`, key)
}

func endCancelWindow(t *testing.T, d *desk, key string) {
	t.Helper()
	d.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours' WHERE key = $1`, key)
}

// TestEveryParkedCancelHasAnExit tries each exit on a cancel of each reason. An
// exit that asks Stripe may not contradict it (I4, I27).
func TestEveryParkedCancelHasAnExit(t *testing.T) {
	t.Parallel()
	for _, s := range cancelSituations() {
		t.Run(s.reason+", "+s.story, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, situation{})
			n := 0
			for name := range cancelExits("", "") {
				n++
				hail := "k" + strconv.Itoa(n)
				key := hail + "/cancel"
				s.park(t, d, hail, key)
				want := s.asked[name]
				if want == "" {
					want = "refused"
				}
				if got := d.leaveCancel(t, name, hail, key); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		})
	}
}

// park brings a cancel to the situation.
func (s cancelSituation) park(t *testing.T, d *desk, hail, key string) {
	t.Helper()
	d.hails(t, hail, http.StatusCreated)
	s.fault.Match = fakestripe.Match{Path: "/v1/refunds", Key: phases.ForeignKey("cancel", "refund_created", d.account, key)}
	d.fake.Script(s.fault)
	for range 3 {
		if a := d.cancel(t, d.api, hail, key); strings.Contains(a.body, "payment_under_review") {
			break
		}
		if s.before != nil {
			s.before(t, d, key)
		}
	}
	if got := text(t, d.scene, `SELECT coalesce(parked_reason, 'not') FROM idempotency_keys WHERE key = $1`, key); got != s.reason {
		t.Fatalf("%s is parked for %q, want %q", key, got, s.reason)
	}
}

// leaveCancel tries an exit on a parked cancel, and returns the status of the
// answer that the key has then, or "refused", or "parked".
func (d *desk) leaveCancel(t *testing.T, exit, hail, key string) string {
	t.Helper()
	intent := text(t, d.scene, `SELECT payment_intent_id FROM rides WHERE key = $1`, hail)
	refund, back := "re_told", false
	for _, r := range d.fake.Refunds() {
		if r.Intent == intent {
			refund, back = r.ID, r.Status == "succeeded"
		}
	}
	code, said := d.operate(t, d.stripeURL, cancelExits(key, refund)[exit]...)
	if code == 0 && exit == "retry" {
		d.complete(t, d.stripeURL, key)
		for _, r := range d.fake.Refunds() {
			back = back || r.Intent == intent && r.Status == "succeeded"
		}
	}
	status := text(t, d.scene, `SELECT coalesce(response_status::text, CASE WHEN parked_reason IS NULL THEN 'waits' ELSE 'parked' END) FROM idempotency_keys WHERE key = $1`, key)
	trusts := strings.Contains(exit, "unverified")
	switch {
	case code == 2 || code == 1 && status != "parked":
		t.Errorf("%s of %s: exit %d, and the key is %s: %s", exit, key, code, status, said)
	case !trusts && status == "200" && !back, !trusts && status == "409" && back:
		t.Errorf("%s of %s ends with %s, and the money is back %t", exit, key, status, back)
	}
	if code == 1 {
		return "refused"
	}
	return status
}
