package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// hailKey is the key under which the ride was hailed that a trial cancels.
const hailKey = "hailed before"

// hailBefore hails the ride that a trial cancels. No fault strikes that.
func hailBefore(ctx context.Context, r *run) error {
	got := r.send(r.lane.calm, post(ctx, "/v1/rides", `"`+hailKey+`"`, r.account, toOakland))
	if got.status != http.StatusCreated {
		return fmt.Errorf("hailing a ride to cancel: %d %s", got.status, got.body)
	}
	var ride struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(got.body), &ride); err != nil {
		return fmt.Errorf("reading the ride to cancel: %w", err)
	}
	r.ride = ride.ID
	return r.look(ctx)
}

// firstIntent returns the id of the payment intent of the ride that there was
// before the request. A broken service may have made none.
func (r *run) firstIntent() (string, error) {
	intents := r.fake.PaymentIntents()
	if len(intents) == 0 {
		return "", errors.New("the ride before the request has no payment intent")
	}
	return intents[0].ID, nil
}

// resolveCancel resolves a key as refunded if Stripe shows the refund, else as
// not refunded.
func resolveCancel(ctx context.Context, r *run, parked phases.Record) error {
	resolver := r.resolver()
	_, err := resolver.ResolveNotRefunded(ctx, parked, "ann")
	if possible, ok := errors.AsType[*payments.RefundPossibleError](err); ok {
		_, err = resolver.ResolveRefunded(ctx, parked, "ann", possible.RefundID)
	}
	return err
}

// becomes gives every refund that is open another status.
func becomes(status string) func(*fakestripe.Server) error {
	return func(fake *fakestripe.Server) error {
		for _, refund := range fake.Refunds() {
			if refund.Status != "pending" && refund.Status != "requires_action" {
				continue
			}
			if err := fake.ChangeRefund(refund.ID, status); err != nil {
				return err
			}
		}
		return nil
	}
}

// outcome returns the script in which the refund gets a status, and what
// happens meanwhile.
func outcome(name, status string, meanwhile func(*fakestripe.Server) error, ends ...end) script {
	return script{name: name, fault: fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: status}, meanwhile: meanwhile, ends: ends}
}

// dashboard returns the script in which somebody refunded an amount before, or
// all for 0.
func dashboard(name string, amount int64) script {
	return script{name: name, ends: []end{refunded}, before: func(r *run) error {
		intent, err := r.firstIntent()
		if err == nil {
			_, err = r.fake.DashboardRefund(intent, amount)
		}
		return err
	}}
}

// refundScripts are the scripts for flows that refund a charge.
var refundScripts = []script{
	{name: happy, ends: []end{refunded}, torn: true},
	once("500-unsaved", fakestripe.Unsaved500, refunded),
	{name: "500-effect", fault: fakestripe.Fault{Kind: fakestripe.Saved500WithEffect}, ends: []end{refunded}, torn: true},
	once("500-nothing", fakestripe.Saved500WithoutEffect, parkedFor500),
	{
		name: "500-forward", ends: []end{refunded}, meanwhile: advance(2 * soon),
		fault: fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(soon)},
	},
	{
		name: "500-late", ends: []end{parkedFor500}, later: advance(hours),
		fault: fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(hours)},
	},
	once("409", fakestripe.InUse409, refunded),
	once("lock-429", fakestripe.LockTimeout, refunded),
	once("429", fakestripe.RateLimited429, refunded).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once(failing, fakestripe.Unavailable503, refunded).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once("502", fakestripe.BadGateway502, refunded),
	once("truncated", fakestripe.Truncated200, refunded),
	once("empty", fakestripe.Empty200, refunded),
	once("drop-before", fakestripe.DropBefore, refunded),
	once("drop-after", fakestripe.DropAfter, refunded),
	// A send that was torn before it may have refunded for all that we know, so
	// a person decides then.
	once("400-disputed", fakestripe.BadRequest400, refused, refunded, parkedFor400).with(func(f *fakestripe.Fault) { f.Code = "charge_disputed" }),
	once("400", fakestripe.BadRequest400, refunded, parkedFor400).with(func(f *fakestripe.Fault) { f.Code = "parameter_unknown" }),
	once("400-saved", fakestripe.Saved400, parkedFor400),
	once("401", fakestripe.Unauthorized401, refunded),
	once("403", fakestripe.Forbidden403, refunded),
	once("mismatch", fakestripe.OtherObject, parkedForMismatch, refunded).with(func(f *fakestripe.Fault) { f.Set = map[string]any{"currency": "eur"} }),
	outcome("pending", "pending", becomes("succeeded"), refunded),
	outcome("action", "requires_action", becomes("succeeded"), refunded),
	outcome("pending-failed", "pending", becomes("failed"), refused),
	outcome("failed", "failed", nil, refused),
	outcome("canceled", "canceled", nil, refused),
	{
		name: "pending-still", ends: []end{pending}, later: becomes("succeeded"), rounds: 2,
		fault: fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending"},
	},
	dashboard("dashboard", 0),
	dashboard("dashboard-part", 500),
	{
		name: "window-refunded", windowOver: true, ends: []end{refunded, parkedForWindow},
		fault: fakestripe.Fault{Kind: fakestripe.DropAfter},
	},
	{
		// Two workers may send one after the other before the window closes.
		name: "window-nothing", windowOver: true, ends: []end{parkedForWindow, refunded},
		fault: fakestripe.Fault{Kind: fakestripe.DropBefore},
	},
	{
		name: "window-pending", windowOver: true, ends: []end{parkedForWindow}, later: becomes("succeeded"),
		fault: fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending"},
	},
}

// cancelChecks are the checks of a cancel.
var cancelChecks = []check{
	{"I1", (*evidence).oneRefund},
	{"I2", (*evidence).cancelIsWhole},
	{"I4", notForgotten((*evidence).moneyIsBack, refunded)},
	{"I5", duringRun("I5")},
	{"I6", (*evidence).oneForm},
	{"I7", (*evidence).legalPath},
	{"I8", (*evidence).finishedIsFinal},
	{"I9", (*evidence).oneAnswer},
	{"I10", duringRun("I10")},
	{"I11", duringRun("I11")},
	{"I12", (*evidence).cancelSnapshotsAgree},
	{"I13", (*evidence).nothingLost},
	{"I15", (*evidence).noFailureStored},
	{"I16", (*evidence).rightEnd},
	{"I17", (*evidence).parkedForCause},
	{"I20", jobsAreCommitted(canceledCharge, "receipt")},
	{"I22", (*evidence).nothingReaped},
	{"I23", duringRun("I23")},
	{"I27", (*evidence).refundSumsAgree},
}

// given returns how much Stripe gave back, or will.
func (e *evidence) given() int64 {
	var sum int64
	for _, refund := range e.refunds {
		if refund.Status != "failed" && refund.Status != "canceled" {
			sum += refund.Amount
		}
	}
	return sum
}

// oneRefund counts the refunds at Stripe that this request made, and adds up
// all.
func (e *evidence) oneRefund() (bool, []string) {
	ours := 0
	for _, refund := range e.refunds {
		if refund.Metadata["operation"] != "" {
			ours++
		}
	}
	violations := appendIf(nil, ours > 1 || len(e.succeeded) != 1, "Stripe has %d refunds of ours for %d charges", ours, len(e.succeeded))
	return len(e.sends) > 0, appendIf(violations, e.given() > e.final.ride().amount, "Stripe gave %d of %d back", e.given(), e.final.ride().amount)
}

// cancelIsWhole checks what a success must have, here and at Stripe.
func (e *evidence) cancelIsWhole() (bool, []string) {
	if !e.successful() {
		return false, nil
	}
	s, d := e.final, e.final.ride()
	wrong := len(s.keys) != 1 || len(s.rides) != 1 || len(s.jobs) != 1 || d.status != "canceled" || d.cancelKey != idempotencyKey ||
		d.refundStatus != "succeeded" || d.refundAmount != d.amount
	violations := appendIf(nil, wrong, "%d keys, %d rides, %d jobs, and the ride is %+v", len(s.keys), len(s.rides), len(s.jobs), d)
	shown := slices.ContainsFunc(e.refunds, func(refund fakestripe.Refund) bool {
		return refund.ID == d.refund && refund.Intent == d.intent && refund.Status == "succeeded"
	})
	violations = appendIf(violations, !shown, "the ride shows %s, Stripe has %+v", d.refund, e.refunds)
	return true, appendIf(violations, e.given() != d.amount, "Stripe gave %d of %d back", e.given(), d.amount)
}

// moneyIsBack reports whether Stripe gave all of the fare back.
func (e *evidence) moneyIsBack() bool { return e.given() >= e.final.ride().amount }

// cancelSnapshotsAgree checks that the rows of each snapshot agree.
func (e *evidence) cancelSnapshotsAgree() (bool, []string) {
	var violations []string
	for _, s := range e.snapshots {
		violations = append(violations, e.cancelAgrees(s)...)
	}
	return true, violations
}

// cancelAgrees checks one snapshot.
func (e *evidence) cancelAgrees(s snapshot) []string {
	k, d := s.key(), s.ride()
	violations := appendIf(nil, len(s.keys) > 1 || len(s.rides) != 1 || s.audited("ride.created") != 1, "%d keys, %d rides", len(s.keys), len(s.rides))
	back := k.point == e.flow.called || k.finished && k.status == e.flow.done
	violations = appendIf(violations, back != (d.status == "canceled"), "the ride is %s at %s %d", d.status, k.point, k.status)
	claimed := len(s.keys) == 1 && (!k.finished || !slices.Contains(e.flow.refused, k.status))
	violations = appendIf(violations, claimed != (d.cancelKey == idempotencyKey), "claimed by %q at %s %d", d.cancelKey, k.point, k.status)
	violations = appendIf(violations, d.charge == "" || d.intent == "", "the ride has lost its charge")
	violations = appendIf(violations, (k.finished && k.status == e.flow.done) != (len(s.jobs) == 1), "%d jobs at %s %d", len(s.jobs), k.point, k.status)
	return append(violations, s.keyAgrees()...)
}

// refundSumsAgree compares what Stripe gave back with the ride and its receipt.
func (e *evidence) refundSumsAgree() (bool, []string) {
	var back, ride, receipts int64
	for _, refund := range e.refunds {
		if refund.Status == "succeeded" {
			back += refund.Amount
		}
	}
	if d := e.final.ride(); d.status == "canceled" {
		ride = d.amount
	}
	for _, j := range e.final.jobs {
		receipts += j.amount
	}
	return back+ride+receipts > 0, appendIf(nil, back != ride || ride != receipts, "Stripe gave %d back, the ride says %d, the receipts %d", back, ride, receipts)
}
