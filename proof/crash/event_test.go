package crash

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// eventSecret is what Stripe signs its events with.
const eventSecret = "whsec_crash0123456789abcdef01"

// payLate hails a ride whose card is declined, and then pays it at Stripe with
// another card. The ride's payment intent is no longer noted as open, so only
// the event tells of it. No fault strikes any of that.
func payLate(ctx context.Context, r *run) error {
	got := r.send(r.lane.calm, post(ctx, "/v1/rides", `"`+hailKey+`"`, r.account, toOakland))
	if got.status != http.StatusPaymentRequired {
		return fmt.Errorf("hailing a ride that is declined: %d %s", got.status, got.body)
	}
	intent, err := r.firstIntent()
	if err != nil {
		return err
	}
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/payment_intents/"+intent+"/confirm?payment_method=pm_card_visa", nil)
	request.Header.Set("Authorization", "Bearer sk_test_crash")
	recorder := httptest.NewRecorder()
	if r.fake.ServeHTTP(recorder, request); recorder.Code != http.StatusOK {
		return fmt.Errorf("paying a declined ride: %d %s", recorder.Code, recorder.Body)
	}
	if _, err := r.lane.pool.Exec(ctx, `DELETE FROM open_intents`); err != nil {
		return fmt.Errorf("forgetting an open payment intent: %w", err)
	}
	for _, e := range r.fake.Events() {
		if e.Type == "payment_intent.succeeded" {
			r.event = e.ID
		}
	}
	r.key = "refund_late→" + intent
	return r.look(ctx)
}

// delivery returns Stripe's request with the event in a shape.
func (r *run) delivery(ctx context.Context, shape string) *http.Request {
	body, signature, err := r.fake.SignedEvent(r.event, shape, time.Now())
	if err != nil {
		r.note("I21", fmt.Sprintf("Stripe can't send its event: %v", err))
	}
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, r.flow.path(r), bytes.NewReader(body))
	request.Header.Set("Stripe-Signature", signature)
	return request
}

// recoverEvent runs one round of recovery of an event. Stripe sends it again,
// and then a completer works it; or it only does the latter; or both happen at
// once, with a second completer.
func (r *run) recoverEvent(ctx context.Context, recovery string) {
	api, worker := r.lane.api, r.lane.worker
	switch recovery {
	case byRetry:
		r.begin(api[0], r.client(ctx, api[0]))
		r.settle()
	case byBoth:
		r.begin(api[0], r.client(ctx, api[0]))
		r.begin(api[1], r.complete(ctx, api[1]))
	}
	r.begin(worker, r.complete(ctx, worker))
	r.settle()
}

// eventsAreDue ends the leases and the pauses of events.
func (r *run) eventsAreDue(ctx context.Context) error {
	if !r.flow.event {
		return nil
	}
	_, err := r.lane.pool.Exec(ctx, `UPDATE stripe_events SET run_after = now() - interval '1 second' WHERE worked_at IS NULL`)
	if err != nil {
		return fmt.Errorf("letting time pass for events: %w", err)
	}
	return nil
}

// deliverAgain delivers the event once more in both shapes, and a forged one,
// and works them.
func (r *run) deliverAgain(ctx context.Context) {
	for _, shape := range []string{"snapshot", "thin"} {
		if got := r.send(r.lane.calm, r.delivery(ctx, shape)); got.status != http.StatusOK {
			r.note("I13", fmt.Sprintf("at the end the event was answered with %d %s", got.status, got.body))
		}
	}
	forged := r.delivery(ctx, "thin")
	forged.Header.Set("Stripe-Signature", forged.Header.Get("Stripe-Signature")+"0")
	violation := ""
	if got := r.send(r.lane.calm, forged); got.code != "signature_invalid" {
		violation = fmt.Sprintf("a forged event was answered with %d %s", got.status, got.body)
	}
	err := r.eventsAreDue(ctx)
	if err == nil {
		err = r.completeCalmly(ctx)
	}
	if err != nil {
		violation = fmt.Sprintf("working the event once more: %v", err)
	}
	r.note("I21", violation)
}

const parkedForRefusal end = "parked refund_refused"

// lateScripts are the scripts for what gives a late payment back. The card is
// declined when the ride is hailed.
var lateScripts = declinedFirst(
	script{name: happy, ends: []end{refunded}, torn: true},
	once("500-unsaved", fakestripe.Unsaved500, refunded),
	once("500-effect", fakestripe.Saved500WithEffect, refunded),
	once("500-nothing", fakestripe.Saved500WithoutEffect, parkedFor500),
	once(failing, fakestripe.Unavailable503, refunded).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once("drop-before", fakestripe.DropBefore, refunded),
	once("drop-after", fakestripe.DropAfter, refunded),
	outcome("pending", "pending", becomes("succeeded"), refunded),
	outcome("failed", "failed", nil, parkedForRefusal),
)

// declinedFirst returns the scripts with a card that is declined.
func declinedFirst(scripts ...script) []script {
	for i := range scripts {
		scripts[i].card = "pm_card_chargeCustomerFail"
	}
	return scripts
}

// lateChecks are the checks of an event and of what it causes.
var lateChecks = []check{
	{"I1", (*evidence).oneRefund},
	{"I4", notForgotten((*evidence).moneyIsBack, refunded)},
	{"I5", duringRun("I5")},
	{"I6", (*evidence).oneForm},
	{"I7", (*evidence).legalPath},
	{"I8", (*evidence).finishedIsFinal},
	{"I12", (*evidence).lateSnapshotsAgree},
	{"I13", (*evidence).eventIsKept},
	{"I15", (*evidence).eventIsAnswered},
	{"I16", (*evidence).rightEnd},
	{"I17", (*evidence).parkedForCause},
	{"I21", (*evidence).oneEffect},
	{"I22", (*evidence).nothingReaped},
	{"I23", duringRun("I23")},
	{"I27", (*evidence).lateSumsAgree},
}

// lateSnapshotsAgree checks that the rows of each snapshot agree: the ride stays
// declined, and what the key says is on it.
func (e *evidence) lateSnapshotsAgree() (bool, []string) {
	var violations []string
	for _, s := range e.snapshots {
		k, d := s.key(), s.ride()
		violations = appendIf(violations, len(s.keys) > 1 || len(s.rides) != 1 || d.status != "declined" || d.charge != "", "%d keys, %d rides, and the ride is %+v", len(s.keys), len(s.rides), d)
		violations = appendIf(violations, len(s.keys) == 1 && s.audited("ride.charged_late") != 1, "a key without a record of the late payment")
		back := k.point == e.flow.called || k.finished && k.status == e.flow.done
		violations = appendIf(violations, back != (d.refundStatus == "succeeded"), "the refund is %q at %s %d", d.refundStatus, k.point, k.status)
		done := k.finished && k.status == e.flow.done
		violations = appendIf(violations, done != (s.audited("ride.refunded_late") == 1), "%d records of the refund at %s %d", s.audited("ride.refunded_late"), k.point, k.status)
		violations = append(violations, s.keyAgrees()...)
		violations = appendIf(violations, len(s.jobs) > 0, "%d jobs tell of it", len(s.jobs))
	}
	return true, violations
}

// eventIsKept checks that an event that was acknowledged is in every later
// snapshot.
func (e *evidence) eventIsKept() (bool, []string) {
	applies, violations := false, e.noted("I13")
	for _, r := range e.replies {
		for _, s := range e.snapshots {
			if r.status != http.StatusOK || s.moment < r.to {
				continue
			}
			applies = true
			kept := slices.ContainsFunc(s.events, func(row eventRow) bool { return row.id == e.event })
			violations = appendIf(violations, !kept, "an event that was acknowledged is lost")
		}
	}
	return applies, violations
}

// eventIsAnswered checks that Stripe is told to send an event again unless it is
// stored, and which answers are stored.
func (e *evidence) eventIsAnswered() (bool, []string) {
	violations := e.noted("I15")
	for _, r := range e.replies {
		violations = appendIf(violations, r.status != http.StatusOK && r.status != http.StatusServiceUnavailable, "the event was answered with %d %s", r.status, r.body)
	}
	for _, s := range e.snapshots {
		k := s.key()
		violations = appendIf(violations, k.status != 0 && k.status != e.flow.done && !slices.Contains(e.flow.refused, k.status), "%d was stored: %s", k.status, k.body)
	}
	return len(e.replies) > 0, violations
}

// oneEffect checks what came of the event: however often it came, one late
// payment was recorded, and given back once.
func (e *evidence) oneEffect() (bool, []string) {
	violations := e.noted("I21")
	for _, row := range e.final.events {
		known := row.outcome == "late_success" || row.outcome == "nothing_new" // what it tells was done already
		violations = appendIf(violations, !known, "the event came to %q", row.outcome)
	}
	n := e.final.audited("ride.charged_late")
	violations = appendIf(violations, n != 1, "%d late payments were recorded", n)
	return true, appendIf(violations, len(e.final.events) != 2, "%d events are stored, and two came", len(e.final.events))
}

// lateSumsAgree compares what Stripe gave back with what the ride shows.
func (e *evidence) lateSumsAgree() (bool, []string) {
	var back, shown int64
	for _, refund := range e.refunds {
		if refund.Status == "succeeded" {
			back += refund.Amount
		}
	}
	if d := e.final.ride(); d.refundStatus == "succeeded" {
		shown = d.refundAmount
	}
	return back+shown > 0, appendIf(nil, back != shown, "Stripe gave %d back, and the ride shows %d", back, shown)
}
