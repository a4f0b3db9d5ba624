package client

import "time"

// A Ride is a ride as the API shows it. Fields that a later version of the API
// adds are left out.
type Ride struct {
	ID             string    `json:"id"` // ride_…
	Object         string    `json:"object"`
	CreatedAt      time.Time `json:"created_at"`
	Livemode       bool      `json:"livemode"` // false: a test, nobody pays
	Status         Status    `json:"status"`
	Origin         Point     `json:"origin"`
	Target         Point     `json:"target"`
	Fare           Money     `json:"fare"`
	Charge         *Charge   `json:"charge"`          // nil until there is one
	Refund         *Refund   `json:"refund"`          // nil until there is one
	Disputed       bool      `json:"disputed"`        // the card's holder contests the charge
	Failure        *Failure  `json:"failure"`         // nil unless the ride is declined
	IdempotencyKey string    `json:"idempotency_key"` // the one that it was hailed with
	CallbackURL    *string   `json:"callback_url"`    // nil: no callback
}

// AtRest reports whether the ride's status stays as it is, unless somebody
// cancels the ride or decides a review: it is charged, declined or canceled,
// and no refund is pending; or it is under review.
func (r Ride) AtRest() bool {
	switch r.Status {
	case StatusCharged, StatusDeclined, StatusCanceled:
		return r.Refund == nil || r.Refund.Status != RefundPending
	case StatusUnderReview:
		return true
	default:
		return false
	}
}

// A Point is a place on earth, in degrees (WGS 84).
type Point struct {
	Lat float64 `json:"lat"` // −90 (south) to 90
	Lon float64 `json:"lon"` // −180 (west) to 180
}

// Money is an amount in the smallest unit of a currency: 2350 usd are 23.50
// dollars.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// A Charge names the charge of a ride at Stripe.
type Charge struct {
	ID            string `json:"id"`             // ch_…
	PaymentIntent string `json:"payment_intent"` // pi_…
}

// A Refund is what was given back of a ride's fare, or is on its way. If it has
// failed after the ride was canceled or, paid late, declined, it is what is not
// back.
type Refund struct {
	ID       string       `json:"id"` // re_…
	Status   RefundStatus `json:"status"`
	Amount   int64        `json:"amount"`
	Currency string       `json:"currency"`
}

// A Failure says why a ride was declined, in the words of the Problem that
// Create returned for it.
type Failure struct {
	Code        Code    `json:"code"`
	DeclineCode *string `json:"decline_code"` // Stripe's reason; nil if there is none
	Detail      string  `json:"detail"`
}

// Status says how far a ride has come.
type Status string

// The statuses of a ride.
const (
	StatusPending     Status = "pending"      // not charged yet
	StatusCharged     Status = "charged"      // charged
	StatusDeclined    Status = "declined"     // never charged
	StatusUnderReview Status = "under_review" // a person decides whether it was charged
	StatusCanceled    Status = "canceled"     // all of the fare is back
)

// RefundStatus says how far a refund has come.
type RefundStatus string

// The statuses of a refund.
const (
	RefundPending   RefundStatus = "pending"
	RefundSucceeded RefundStatus = "succeeded"
	RefundFailed    RefundStatus = "failed"
)
