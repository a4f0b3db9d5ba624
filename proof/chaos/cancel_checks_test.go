package main

import (
	"slices"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// wholeCanceled returns a correct history of the cancel of whole's ride, with
// its last round, and its facts.
func wholeCanceled() (ops, last []*op, f *facts) {
	ops, f = whole()
	const body = `{"id":"ride_1","status":"canceled"}`
	id := rideKey{"acct_1", "c"}
	status, operation, ride, key, re := 200, "cancel", "ride_1", "c", "re_1"
	created := f.sends[0].At.Add(time.Minute)
	first := created.Add(time.Second)
	f.cancels = map[rideKey]keyRow{id: {
		Account: "acct_1", Key: key, FlowVersion: 1, Point: "finished", ForeignKey: &operation, Flow: "cancel", Cancels: &ride,
		CreatedAt: created, FirstSentAt: &first, FinishedAt: &first, Status: &status, Body: []byte(body),
	}}
	changeRow(f.rides, func(r *rideRow) { r.Status, r.CancelKey, r.Refund = "canceled", &key, &re })
	f.jobs[id] = 1
	f.refunds = []refund{{ID: re, Status: "succeeded", Amount: 2350, Intent: "pi_1"}}
	f.sends = append(f.sends, fakestripe.Send{
		Path: "/v1/refunds", Key: operation, Body: "b=1", Status: 200, At: first.Add(time.Millisecond),
		Params: map[string]string{"metadata[operation]": operation},
	})
	canceled := op{Account: "acct_1", Key: key, Cancel: ride, answer: answer{Status: status, Body: body}}
	again := canceled
	return append(ops, &canceled), []*op{&again}, f
}

// parkedCancel makes the cancel's key a parked one.
func parkedCancel(f *facts, reason string) {
	changeRow(f.cancels, func(k *keyRow) { k.Parked, k.FinishedAt, k.Status, k.Body = &reason, nil, nil, nil })
}

const (
	refundsOnce, refundsFit = "no ride is refunded twice, or beyond its fare", "refunded at Stripe ⇔ canceled here (or parked)"
	cancelStored, cancelEnd = "every cancel answers as stored", "every cancel ends, or is parked for a legal reason"
	refundSends             = "all sends of a refund are what was on record before"
)

// cancelViolations break one promise about cancels each.
func cancelViolations() map[string]violation {
	ofCancel := func(h *history) *fakestripe.Send { return &h.facts.sends[1] }
	return map[string]violation{
		"two refunds":              {refundsOnce, func(h *history) { h.facts.refunds = append(h.facts.refunds, h.facts.refunds[0]) }},
		"more than the fare":       {refundsOnce, func(h *history) { h.facts.refunds[0].Amount++ }},
		"canceled by two keys":     {refundsOnce, func(h *history) { h.facts.cancels[rideKey{"acct_1", "d"}] = h.facts.cancels[rideKey{"acct_1", "c"}] }},
		"canceled, and not back":   {refundsFit, func(h *history) { h.facts.refunds[0].Status = "failed" }},
		"back, and not canceled":   {refundsFit, func(h *history) { changeRow(h.facts.rides, func(r *rideRow) { r.Status = "charged" }) }},
		"canceled by nobody":       {refundsFit, func(h *history) { changeRow(h.facts.rides, func(r *rideRow) { r.CancelKey = nil }) }},
		"no receipt":               {refundsFit, func(h *history) { delete(h.facts.jobs, rideKey{"acct_1", "c"}) }},
		"not found":                {cancelStored, func(h *history) { h.all[1].answer = answer{Status: 404} }},
		"other bytes":              {cancelStored, func(h *history) { h.all[1].Body += " " }},
		"an answer of a key gone":  {cancelStored, func(h *history) { h.facts.cancels = nil }},
		"another one at last":      {cancelStored, func(h *history) { h.last[0].Body += " " }},
		"none at last":             {cancelStored, func(h *history) { h.last = nil }},
		"a refusal, not stored":    {cancelStored, func(h *history) { h.all[1].answer = answer{Status: 409, Code: notCancelable} }},
		"sent before the key":      {refundSends, func(h *history) { ofCancel(h).At = h.facts.sends[0].At }},
		"sent before its time":     {refundSends, func(h *history) { s := ofCancel(h); s.At = s.At.Add(-500 * time.Millisecond) }},
		"sent under no key":        {refundSends, func(h *history) { ofCancel(h).Key = "another" }},
		"sent for something else":  {refundSends, func(h *history) { ofCancel(h).Params = nil }},
		"sent again as other form": {refundSends, func(h *history) { s := *ofCancel(h); s.Body = "b=2"; h.facts.sends = append(h.facts.sends, s) }},
		"unfinished":               {cancelEnd, func(h *history) { changeRow(h.facts.cancels, func(k *keyRow) { k.FinishedAt = nil }) }},
		"parked, and no fault":     {cancelEnd, func(h *history) { parkedCancel(h.facts, "stripe_500") }},
		"parked by failures": {cancelEnd, func(h *history) {
			ofCancel(h).Fault = fakestripe.Saved500WithEffect
			parkedCancel(h.facts, "max_attempts")
		}},
	}
}

func TestEachCheckOfCancelsFindsItsViolation(t *testing.T) {
	t.Parallel()
	seek(t, func() *history {
		all, last, f := wholeCanceled()
		return &history{all: all, last: last, facts: f}
	}, cancelViolations())
}

// TestASavedFailureParksACancel: of a refund too, Stripe may have saved that it
// doesn't know. Then the ride is charged as before.
func TestASavedFailureParksACancel(t *testing.T) {
	t.Parallel()
	all, last, f := wholeCanceled()
	f.sends[1].Fault = fakestripe.Saved500WithEffect
	parkedCancel(f, "stripe_500")
	changeRow(f.rides, func(r *rideRow) { r.Status = "charged" })
	delete(f.jobs, rideKey{"acct_1", "c"})
	review := answer{Status: 409, Code: "payment_under_review"}
	all[1].answer, last[0].answer = review, review
	if found := broken(cancelChecks(all, last, f)); found != nil {
		t.Errorf("it breaks %q", found)
	}
}

// TestASendMayComeBeforeTheFirstOne: one that Stripe certainly refused is not
// the first, and the time of the first one begins again.
func TestASendMayComeBeforeTheFirstOne(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{200: true, 0: true, 500: true, 400: false, 401: false, 429: false} {
		_, _, f := wholeCanceled()
		s := f.sends[1]
		s.At, s.Status = s.At.Add(-500*time.Millisecond), status
		if got := f.cancels[rideKey{"acct_1", "c"}].sentEarly(s); got != want {
			t.Errorf("a send that was answered %d is early: %t", status, got)
		}
	}
}

// A history is what the checks look at.
type history struct {
	all, last []*op
	facts     *facts
	lives     map[string][]life
}

func (h *history) checks() []check { return checksOf(h.all, h.last, h.facts, h.lives) }

// A violation spoils a history, and names a check that must find it.
type violation struct {
	want  string
	spoil func(h *history)
}

// seek checks that checks find violations of a correct history, and break
// nothing if there is none.
func seek(t *testing.T, correct func() *history, violations map[string]violation) {
	t.Helper()
	concerned := map[string]bool{}
	for _, v := range violations {
		concerned[v.want] = true
	}
	for _, name := range broken(correct().checks()) {
		if concerned[name] {
			t.Errorf("what is right breaks %q", name)
		}
	}
	for name, v := range violations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := correct()
			v.spoil(h)
			if found := broken(h.checks()); !slices.Contains(found, v.want) {
				t.Errorf("it breaks %q, not %q", found, v.want)
			}
		})
	}
}
