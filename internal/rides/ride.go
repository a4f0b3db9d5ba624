package rides

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A Ride is a ride as clients see it. The order of the fields is their order in
// a body.
type Ride struct {
	ID             string   `json:"id"` // ride_…
	Object         string   `json:"object"`
	CreatedAt      Time     `json:"created_at"`
	Livemode       bool     `json:"livemode"`
	Status         Status   `json:"status"`
	Origin         Point    `json:"origin"`
	Target         Point    `json:"target"`
	Fare           Money    `json:"fare"`
	Charge         *Charge  `json:"charge"`   // nil until there is one
	Refund         *Refund  `json:"refund"`   // nil until there is one
	Disputed       bool     `json:"disputed"` // the card's holder contests the charge
	Failure        *Failure `json:"failure"`  // nil unless the ride is declined
	IdempotencyKey string   `json:"idempotency_key"`
	CallbackURL    *string  `json:"callback_url"`
}

// A Time is a time as clients see it: in UTC, and always with six digits after
// the second, so that all have one form and the precision of the database.
type Time struct{ time.Time }

// MarshalJSON returns the time as a string in RFC 3339.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000000Z"`)), nil
}

// Failure says why a ride was declined, in the words of its 402.
type Failure struct {
	Code        web.Code `json:"code"`
	DeclineCode *string  `json:"decline_code"` // Stripe's reason; nil if there is none
	Detail      string   `json:"detail"`
}

// failureOf returns the failure of a ride whose request is answered with a
// problem.
func failureOf(problem web.Problem) *Failure {
	failure := &Failure{Code: problem.Code, Detail: problem.Detail}
	if problem.DeclineCode != "" {
		failure.DeclineCode = &problem.DeclineCode
	}
	return failure
}

// Money is an amount in the smallest unit of a currency.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// Charge names the charge of a ride at Stripe.
type Charge struct {
	ID            string `json:"id"`
	PaymentIntent string `json:"payment_intent"`
}

// Refund is what was given back of a ride's charge, by one or more refunds at
// Stripe. If one failed after the ride was canceled or, paid late, declined, it
// is what is not back.
type Refund struct {
	ID     string `json:"id"`
	Status string `json:"status"` // pending, succeeded or failed
	Money
}

// Status says how far a ride has come.
type Status string

// The statuses of a ride. StatusUnderReview is never stored: a ride shows it
// while its key is parked.
const (
	StatusPending     Status = "pending"
	StatusCharged     Status = "charged"
	StatusDeclined    Status = "declined"
	StatusUnderReview Status = "under_review"
	StatusCanceled    Status = "canceled"
)

// newRide returns the ride that a key asks for, as it is before anything was
// done. It is a pure function of the key, so that a ride that was lost in a
// fail-over is made again as it was.
func newRide(key phases.Key, live bool) (Ride, error) {
	// The parameters were validated when the key was new and are not validated
	// again: a stricter rule of a later release must not stop a ride that was
	// accepted.
	var params Params
	if err := json.Unmarshal([]byte(key.Params), &params); err != nil {
		return Ride{}, fmt.Errorf("decoding stored parameters: %w", err)
	}
	return Ride{
		ID:             rideID(key.Account, key.Key),
		Object:         "ride",
		CreatedAt:      Time{key.CreatedAt},
		Livemode:       live,
		Status:         StatusPending,
		Origin:         params.Origin,
		Target:         params.Target,
		Fare:           Money{Amount: Fare(params.Origin, params.Target), Currency: currency},
		IdempotencyKey: key.Key,
		CallbackURL:    params.CallbackURL,
	}, nil
}

// rideID derives the id of a ride from the key of its charge. A random id, or
// one from a sequence, would change if the ride's row were lost and made again,
// and Stripe would refuse to charge with other metadata under the same key.
func rideID(account, key string) string {
	return phases.DerivedID("ride_", operationOf(account, key))
}

// operationOf returns the idempotency key under which the charge of a key is
// sent to Stripe, and which everything carries that it makes there.
func operationOf(account, key string) string {
	return phases.ForeignKey(hailFlow, pointCharge, account, key)
}

// ridePath returns the path at which a ride can be read.
func ridePath(id string) string { return "/v1/rides/" + id }

// rideStatus is the status of a ride, from the tables rides (r) and
// idempotency_keys (k).
const rideStatus = `CASE WHEN k.parked_reason IS NOT NULL THEN 'under_review' ELSE r.status END`

// rideColumns are what scanRide reads, from the same tables.
const rideColumns = `r.id, r.created_at, ` + rideStatus + `,
	r.origin_lat, r.origin_lon, r.target_lat, r.target_lon, r.fare_amount, r.fare_currency,
	r.charge_id, r.payment_intent_id, r.refund_id, r.refund_status, r.refund_amount, r.disputed,
	r.failure, r.key, r.callback_url`

// rideTables are the tables of rideColumns, for statements whose $1 is the
// account. The join is a left one because a ride outlives its key. LIMIT makes
// Postgres look the key of each ride up: if it took the account's keys for few,
// it could read them all. Only a parked key matters, and those have an index of
// their own, which is short, whatever the number of keys.
const rideTables = `rides r LEFT JOIN LATERAL (
		  SELECT parked_reason FROM idempotency_keys
		  WHERE account_id = $1 AND key = r.key AND parked_reason IS NOT NULL LIMIT 1) k ON true`

// rideByID reads the ride $2 of the account $1.
const rideByID = `
		SELECT ` + rideColumns + `
		FROM ` + rideTables + `
		WHERE r.account_id = $1 AND r.id = $2`

// setDispute stores what the disputes of a ride amount to, unless one of
// Stripe's events has changed the ride since it was read at the epoch $3: then
// what is stored may be newer than what was seen.
const setDispute = `
		UPDATE rides
		SET disputed = $4, refund_blocked = $5, stripe_epoch = stripe_epoch + 1
		WHERE account_id = $1 AND id = $2 AND stripe_epoch = $3`

// A scanner is a row, either of pgx or of a phase.
type scanner interface {
	Scan(dest ...any) error
}

// scanRide reads rideColumns.
func scanRide(row scanner, live bool) (Ride, error) {
	ride := Ride{Object: "ride", Livemode: live}
	var charge, intent, refund, refundStatus *string
	var refunded *int64
	err := row.Scan(&ride.ID, &ride.CreatedAt.Time, &ride.Status,
		&ride.Origin.Lat, &ride.Origin.Lon, &ride.Target.Lat, &ride.Target.Lon, &ride.Fare.Amount, &ride.Fare.Currency,
		&charge, &intent, &refund, &refundStatus, &refunded, &ride.Disputed,
		&ride.Failure, &ride.IdempotencyKey, &ride.CallbackURL)
	if err != nil {
		return Ride{}, err
	}
	if charge != nil && intent != nil {
		ride.Charge = &Charge{ID: *charge, PaymentIntent: *intent}
	}
	if refund != nil && refundStatus != nil && refunded != nil {
		ride.Refund = &Refund{ID: *refund, Status: *refundStatus, Money: Money{Amount: *refunded, Currency: ride.Fare.Currency}}
	}
	return ride, nil
}

// collectRide is scanRide for pgx.CollectRows.
func collectRide(live bool) pgx.RowToFunc[Ride] {
	return func(row pgx.CollectableRow) (Ride, error) { return scanRide(row, live) }
}
