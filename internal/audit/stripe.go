package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// The names of the checks that need Stripe's lists.
const (
	chargedOnce     = "charged-once"
	moneyHasARide   = "money-has-a-ride"
	rideHasItsMoney = "ride-has-its-money"
	refundedOnce    = "refunded-once"
)

// stripeChecks returns the checks that need Stripe's lists.
func stripeChecks() []check {
	return []check{
		{chargedOnce, "I1", "No request has two charges at Stripe that were not refunded in full."},
		{moneyHasARide, "I4", "A charge at Stripe is on its ride, or its key is unfinished."},
		{rideHasItsMoney, "I27", "The charge of a ride exists at Stripe, with the same amount; the ride shows what was given back, and a canceled one was refunded in full."},
		{refundedOnce, "I1", "No payment was given back beyond its fare, and no key has two refunds at Stripe."},
	}
}

// A comparison is what is kept of Stripe's lists while they are read. It grows
// with them, by a text of an intent's id and an entry of each map.
type comparison struct {
	// chargedBy maps an operation to the intent that charged the card for it
	// and was not refunded in full.
	chargedBy map[operation]string
	// left maps the intents that charged a card to what they took, less what is
	// known to be given back. An intent that only exists doesn't pay for a ride.
	left map[string]int64
	// refundedBy maps an operation to the refund that gave back money for it.
	refundedBy map[operation]string
	// found holds the findings, by the name of the check.
	found map[string][]Finding
}

func newComparison() *comparison {
	return &comparison{
		chargedBy: map[operation]string{}, left: map[string]int64{}, refundedBy: map[operation]string{}, found: map[string][]Finding{},
	}
}

// An operation is a digest of one: a quarter of its text, and within the map.
// Two that had the same digest would be a finding too many, never one too few.
type operation [16]byte

func operationOf(text string) operation {
	sum := sha256.Sum256([]byte(text))
	return operation(sum[:])
}

// add adds f as a finding of a check.
func (c *comparison) add(check string, f Finding, detail string, args ...any) {
	f.Check, f.Detail = check, fmt.Sprintf(detail, args...)
	c.found[check] = append(c.found[check], f)
}

// compareWithStripe compares Stripe's payment intents with the rides that they
// should have paid for, in both directions, and its refunds with what was paid.
func (a Auditor) compareWithStripe(ctx context.Context, report *Report) error {
	began := time.Now()
	var start time.Time
	if err := a.Pool.QueryRow(ctx, `SELECT now()`).Scan(&start); err != nil {
		return fmt.Errorf("reading the database's clock: %w", err)
	}
	c := newComparison()
	since := start.Add(-a.StripeSince)
	err := a.Stripe.Intents(ctx, since, func(page []payments.Intent) error {
		report.Intents += len(page)
		return a.comparePage(ctx, c, page)
	})
	if err != nil {
		return fmt.Errorf("listing Stripe's payment intents: %w", err)
	}
	if err := a.compareRides(ctx, c, since, start); err != nil {
		return err
	}
	if err := a.compareRefunds(ctx, c, since); err != nil {
		return err
	}
	for _, check := range stripeChecks() {
		a.add(report, check, began, c.found[check.name])
	}
	return nil
}

// comparePage compares one page of Stripe's list with the rides as they are
// now. The rides are read after the page: by then, what the page shows was
// recorded, or its key is unfinished.
func (a Auditor) comparePage(ctx context.Context, c *comparison, page []payments.Intent) error {
	rides, err := a.readRides(ctx, page)
	if err != nil {
		return err
	}
	for _, intent := range page {
		r, known := rides[rideID{intent.Account, intent.Ride}]
		c.compareIntent(intent, r, known)
	}
	return nil
}

// compareIntent compares an intent with its ride r, if that is known.
func (c *comparison) compareIntent(intent payments.Intent, r ride, known bool) {
	switch {
	case !intent.Succeeded:
		return
	case intent.Operation == "": // it isn't ours, and may be given back as often as its owner likes
		c.left[intent.ID] = math.MaxInt64
		return
	}
	c.left[intent.ID] = intent.Amount
	f := Finding{Account: intent.Account, Key: r.key, Ride: intent.Ride}
	if !intent.RefundedInFull {
		c.compareOperation(f, intent)
	}
	c.compareRide(f, intent, r, known)
	c.compareGiven(f, intent, r)
}

// compareOperation checks that no other intent charged for the same operation.
func (c *comparison) compareOperation(f Finding, intent payments.Intent) {
	operation := operationOf(intent.Operation)
	other, charged := c.chargedBy[operation]
	if charged && other != intent.ID {
		c.add(chargedOnce, f, "%s and %s both charged the card", other, intent.ID)
	}
	c.chargedBy[operation] = intent.ID
}

// compareRide checks that a charge is on its ride r, if that is known, with the
// same amount. A charge without a ride is excused only by a refund in full.
func (c *comparison) compareRide(f Finding, intent payments.Intent, r ride, known bool) {
	paid := r.status == "charged" || r.status == "canceled"
	switch {
	case intent.RefundedInFull && !paid, r.unfinished && !paid, r.returning == intent.ID:
	case !known:
		c.add(moneyHasARide, f, "%s charged the card, and there is no ride", intent.ID)
	case !paid:
		c.add(moneyHasARide, f, "%s charged the card, and the ride is %s", intent.ID, r.status)
	case r.intent != intent.ID || r.charge != intent.Charge:
		c.add(moneyHasARide, f, "%s charged the card, and the ride has %s", intent.ID, r.intent)
	case r.amount != intent.Amount || r.currency != intent.Currency:
		c.add(rideHasItsMoney, f, "%s took %d %s, and the fare is %d %s", intent.ID, intent.Amount, intent.Currency, r.amount, r.currency)
	}
}

type rideID struct{ account, ride string }

// A ride is what the database has of one ride and its key.
type ride struct {
	key, status, intent, charge, currency string
	refund                                string // the status of what was given back; "" if nothing was
	amount                                int64
	unfinished                            bool   // the key is
	refunding                             bool   // a cancel of it is unfinished
	returning                             string // the intent whose late refund is unfinished; "" if there is none
}

// readRides reads the rides that a page names.
func (a Auditor) readRides(ctx context.Context, page []payments.Intent) (map[rideID]ride, error) {
	var accounts, ids, intents []string
	for _, intent := range page {
		accounts, ids, intents = append(accounts, intent.Account), append(ids, intent.Ride), append(intents, intent.ID)
	}
	rows, err := a.Pool.Query(ctx, `
		SELECT r.account_id, r.id, r.key, r.status, coalesce(r.payment_intent_id, ''), coalesce(r.charge_id, ''),
		       r.fare_currency, r.fare_amount, coalesce(r.refund_status, ''),
		       k.key IS NOT NULL AND k.finished_at IS NULL, c.key IS NOT NULL AND c.finished_at IS NULL,
		       CASE WHEN l.key IS NOT NULL AND l.finished_at IS NULL THEN wanted.intent ELSE '' END
		FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (account_id, id, intent)
		JOIN rides r USING (account_id, id)
		LEFT JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.key AND k.reaped_at IS NULL
		LEFT JOIN idempotency_keys c ON c.account_id = r.account_id AND c.key = r.cancel_key
		LEFT JOIN idempotency_keys l ON l.account_id = r.account_id AND l.key = 'refund_late→' || wanted.intent`,
		accounts, ids, intents)
	if err != nil {
		return nil, fmt.Errorf("reading rides: %w", err)
	}
	found := map[rideID]ride{}
	var id rideID
	var r ride
	_, err = pgx.ForEachRow(rows, []any{&id.account, &id.ride, &r.key, &r.status, &r.intent, &r.charge, &r.currency, &r.amount, &r.refund, &r.unfinished, &r.refunding, &r.returning},
		func() error {
			r.returning = cmp.Or(r.returning, found[id].returning)
			found[id] = r
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reading rides: %w", err)
	}
	return found, nil
}

// compareRides looks for charged rides whose charge is not in Stripe's list. It
// looks at rides whose key was finished before the list was begun, and that
// were charged in the realm that the list shows.
func (a Auditor) compareRides(ctx context.Context, c *comparison, since, start time.Time) error {
	err := readWhole(ctx, a.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT r.account_id, r.key, r.id, r.payment_intent_id
			FROM rides r JOIN idempotency_keys k USING (account_id, key)
			WHERE r.status = 'charged' AND r.created_at >= $1 AND k.finished_at < $2 AND k.realm = $3`,
			since, start, a.Realm)
		if err != nil {
			return err
		}
		var f Finding
		var intent string
		_, err = pgx.ForEachRow(rows, []any{&f.Account, &f.Key, &f.Ride, &intent}, func() error {
			if _, succeeded := c.left[intent]; !succeeded {
				c.add(rideHasItsMoney, f, "the ride is charged, and Stripe's list has no succeeded intent %s", intent)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("reading charged rides: %w", err)
	}
	return nil
}
