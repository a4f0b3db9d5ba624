package rides

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// An outcome is what came of events about one subject.
type outcome struct {
	word string // for the inbox and the metrics
	// account and ride are those that the subject belongs to.
	account, ride string
	// waits means that the events are not done: they are due again after a
	// while, or after again.
	waits bool
	again time.Duration
}

// The words of outcomes that don't stand where they come about.
const (
	outNothingNew = "nothing_new"
	outResting    = "waits_for_its_key"
	outHastened   = "hastened"
	outUnparked   = "unparked"
	outMismatch   = "mismatch"
	outForAPerson = "for_a_person"
)

// forAPerson is what comes of an event about a parked key that it can't let go
// on. The event stays until a person has decided: what it tells may be new to
// the ride only then.
func forAPerson() outcome { return outcome{word: outForAPerson, waits: true, again: parkedPause} }

// parkedPause is how long an event waits for a key that is parked. Each look
// costs Stripe a request or two.
const parkedPause = 10 * time.Minute

// work reads the object that events are about, and changes what is not as
// Stripe says.
func (w *eventRun) work(ctx context.Context, s subject) (outcome, error) {
	intent, found, err := w.Stripe.EventIntent(ctx, s.object, s.id)
	switch {
	case err != nil:
		return outcome{}, err
	case !found:
		return outcome{word: "no_payment"}, nil
	case intent.Account == "" || intent.Operation == "":
		return outcome{word: "not_ours"}, nil
	}
	ride, now, err := w.readFacts(ctx, intent)
	var out outcome
	switch {
	case errors.Is(err, errNotOurs):
		return outcome{word: "not_ours"}, nil
	case errors.Is(err, pgx.ErrNoRows):
		out, err = w.findOrphan(ctx, intent, now)
	case err != nil:
		return outcome{}, err
	case !ride.paidBy(intent):
		out = w.tellMismatch(ctx, intent)
	default:
		out, err = w.compare(ctx, s.object, ride, intent)
	}
	out.account, out.ride = intent.Account, intent.Ride
	return out, err
}

// compare compares what Stripe says of a payment with its ride.
func (w *eventRun) compare(ctx context.Context, object payments.ObjectKind, ride rideFacts, intent payments.Intent) (outcome, error) {
	key, err := w.findKey(ctx, ride.account, ride.key)
	if err != nil {
		return outcome{}, err
	}
	unfinished := key.Key != "" && key.FinishedAt == nil
	switch {
	case isHeld(key):
		return outcome{word: outResting, waits: true}, nil
	case object != payments.ObjectIntent && unfinished && ride.intent == "":
		return untilFinished(key), nil
	case object == payments.ObjectDispute:
		return w.showDispute(ctx, ride, intent)
	case object != payments.ObjectIntent:
		return w.showRefund(ctx, ride, key, intent)
	case unfinished:
		return w.hasten(ctx, key, intent)
	default:
		return w.settle(ctx, ride, intent)
	}
}

// untilFinished keeps an event that may be news to the ride only when its key is
// finished: a refund or a dispute of the charge that the key ends with, or a
// success that it doesn't end with.
func untilFinished(key phases.Record) outcome {
	if key.ParkedReason != "" {
		return forAPerson()
	}
	return outcome{word: outResting, waits: true}
}

// hasten lets a key go on that is unfinished and held by nobody, if a look-up
// would end it now. The look-up decides; nothing is concluded from the event.
// That stays until the key is at rest: the key could be parked by a look-up
// that reads an older list.
func (w *eventRun) hasten(ctx context.Context, key phases.Record, intent payments.Intent) (outcome, error) {
	over, err := w.Engine.WindowOver(ctx, key)
	if err != nil {
		return outcome{}, err
	}
	sent := phases.Sent[payments.ChargeForm]{Form: payments.ChargeForm(key.ForeignForm), Ref: key.ForeignRef, WindowOver: over}
	settles := w.Stripe.Settles(intent, sent)
	switch {
	case !w.Engine.Knows(key):
		return outcome{word: "other_version", waits: true}, nil
	case !settles && intent.Open && key.ParkedReason != "":
		return forAPerson(), nil // who may say that nothing was charged: then it is closed
	case !settles && !intent.Succeeded:
		return outcome{word: outNothingNew}, nil // there will be another event
	case !settles:
		return untilFinished(key), nil
	case key.ParkedReason == "":
		return outcome{word: outHastened, waits: true}, w.keys().Nudge(ctx, key)
	case !slices.Contains(passing(), key.ParkedReason):
		return forAPerson(), nil
	}
	return w.unpark(ctx, key, intent.ID)
}

// passing are the reasons for being parked that can pass by themselves: Stripe
// didn't know, was still working, or couldn't be asked. What a person has
// parked, and what contradicts itself, a person decides.
func passing() []string {
	return []string{payments.ParkSaved500, phases.ReasonWindow, phases.ReasonMaxAttempts}
}

// unpark unparks a key because of an object at Stripe. The event stays until the
// key is at rest, as in hasten: the look-up could park it once more.
func (w *eventRun) unpark(ctx context.Context, key phases.Record, because string) (outcome, error) {
	err := w.keys().Unpark(ctx, key, "event about "+because)
	if errors.Is(err, phases.ErrChanged) {
		return outcome{word: outResting, waits: true}, nil
	}
	return outcome{word: outUnparked, waits: true}, err
}

// settle compares the payment of a ride whose key has its answer.
func (w *eventRun) settle(ctx context.Context, ride rideFacts, intent payments.Intent) (outcome, error) {
	switch {
	case ride.status == StatusDeclined && intent.Succeeded && !intent.RefundedInFull:
		return w.returnLate(ctx, ride, intent)
	case ride.status == StatusDeclined && intent.Open:
		return outcome{word: "closing"}, w.openIntent(ctx, ride, intent)
	case ride.status != StatusDeclined && intent.Succeeded && ride.intent != intent.ID:
		return w.tellMismatch(ctx, intent), nil // the ride is paid twice
	default:
		return outcome{word: outNothingNew}, nil
	}
}

// A rideFacts is what the database says of a ride that Stripe's objects name.
type rideFacts struct {
	account, id, key string
	status           Status
	fare             Money
	live             bool
	intent           string // the payment intent of the charge; "" if there is none
	cancelKey        string // the idempotency key that cancels the ride; "" if there is none
	refund           refundFacts
	dispute          payments.Dispute
	epoch            int64 // see stripe_epoch in the migration
}

// paidBy reports whether an intent is the one that the ride asked for, or
// another one for the same.
func (r rideFacts) paidBy(i payments.Intent) bool {
	return i.Operation == operationOf(r.account, r.key) && i.Asked == r.fare.Amount && i.Currency == r.fare.Currency
}

// paid returns what the ride's payment took.
func (r rideFacts) paid() payments.Paid {
	return payments.Paid{Amount: r.fare.Amount, Currency: r.fare.Currency}
}

// errNotOurs means that an intent names an account of somebody else's.
var errNotOurs = errors.New("there is no such account")

// readFacts returns the ride that an intent names, and the database's time. It
// returns pgx.ErrNoRows if the account is ours and there is no such ride.
func (w *eventRun) readFacts(ctx context.Context, i payments.Intent) (rideFacts, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	r := rideFacts{account: i.Account, id: i.Ride}
	var now time.Time
	err := phases.Rerun(ctx, func(ctx context.Context) error {
		return w.Pool.QueryRow(ctx, `
			SELECT livemode, now()
			FROM accounts
			WHERE id = $1`,
			i.Account).Scan(&r.live, &now)
	})
	if errors.Is(err, pgx.ErrNoRows) || err == nil && r.live != w.Stripe.Live() {
		return r, now, errNotOurs
	}
	if err != nil {
		return r, now, fmt.Errorf("reading account: %w", err)
	}
	err = phases.Rerun(ctx, func(ctx context.Context) error {
		return w.Pool.QueryRow(ctx, `
			SELECT key, status, fare_amount, fare_currency, coalesce(payment_intent_id, ''), coalesce(cancel_key, ''),
			       coalesce(refund_id, ''), coalesce(refund_status, ''), coalesce(refund_amount, 0),
			       disputed, refund_blocked, stripe_epoch
			FROM rides
			WHERE account_id = $1 AND id = $2`,
			i.Account, i.Ride).Scan(&r.key, &r.status, &r.fare.Amount, &r.fare.Currency, &r.intent, &r.cancelKey,
			&r.refund.id, &r.refund.status, &r.refund.amount, &r.dispute.Open, &r.dispute.Refuses, &r.epoch)
	})
	if err != nil {
		return r, now, fmt.Errorf("reading ride: %w", err)
	}
	return r, now, nil
}

func (w *eventRun) keys() phases.Keys { return phases.Keys{Pool: w.Pool} }

// findKey returns a key, or a zero Record for one that was reaped and
// forgotten.
func (w *eventRun) findKey(ctx context.Context, account, key string) (phases.Record, error) {
	found, err := w.keys().Show(ctx, account, key)
	if err != nil || len(found) == 0 {
		return phases.Record{}, err
	}
	return found[0], nil
}

// findOrphan tells a person of a payment without a ride. It may be the trace of
// a ride that was lost with a database.
func (w *eventRun) findOrphan(ctx context.Context, i payments.Intent, now time.Time) (outcome, error) {
	if !i.Succeeded || i.RefundedInFull {
		return outcome{word: "no_ride"}, nil
	}
	if left := w.orphanAge - now.Sub(i.CreatedAt); left > 0 {
		return outcome{word: "no_ride_yet", waits: true, again: left}, nil
	}
	err := w.record(ctx, i.Account, "stripe.orphan", "", i.ID, map[string]any{
		"payment_intent": i.ID, "charge": i.Charge, "operation": i.Operation, "amount": i.Amount, "currency": i.Currency,
	}, func() {
		w.metrics.orphans.Inc()
		w.log.ErrorContext(ctx, "a payment has no ride: a person must refund it or find the ride",
			slog.String("account", i.Account), slog.String("payment_intent", i.ID), slog.String("operation", i.Operation))
	})
	return outcome{word: "orphan"}, err
}

// tellMismatch tells a person of a payment that contradicts its ride.
func (w *eventRun) tellMismatch(ctx context.Context, i payments.Intent) outcome {
	w.metrics.mismatches.Inc()
	w.log.ErrorContext(ctx, "a payment at Stripe contradicts its ride: a person must look at it",
		slog.String("account", i.Account), slog.String("ride", i.Ride), slog.String("payment_intent", i.ID))
	return outcome{word: outMismatch}
}

// returnLate gives back what was taken after the ride's key was answered with
// 402, by a flow of its own, and tells a person.
func (w *eventRun) returnLate(ctx context.Context, ride rideFacts, i payments.Intent) (outcome, error) {
	err := w.record(ctx, ride.account, "ride.charged_late", ride.id, i.ID, map[string]any{
		"payment_intent": i.ID, "charge": i.Charge, "amount": i.Amount, "currency": i.Currency,
	}, func() {
		w.metrics.late.Inc()
		w.log.ErrorContext(ctx, "a payment has succeeded after its ride was declined: it is refunded",
			slog.String("account", ride.account), slog.String("ride", ride.id), slog.String("payment_intent", i.ID))
	})
	if err != nil {
		return outcome{}, err
	}
	flow := refundLate(w.Stripe, accounts.Store{Pool: w.Pool})
	_, err = startRefundLate(ctx, w.Engine, flow, ride.account, ride.id, i.ID)
	if err != nil {
		key, failed := w.findKey(ctx, ride.account, lateKey(i.ID))
		if failed != nil || key.Key == "" {
			return outcome{}, err // it has not begun
		}
		// It goes on by itself, so this is all that is seen of the error.
		w.log.WarnContext(ctx, "a late refund is not done yet", slog.String("account", ride.account),
			slog.String("ride", ride.id), slog.String("payment_intent", i.ID), slog.Any("error", err))
	}
	return outcome{word: "late_success"}, nil
}
