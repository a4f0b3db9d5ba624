package payments

import (
	"context"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// A RefundSeen is a refund, for an audit.
type RefundSeen struct {
	ID, IntentID string
	// Account, Ride and Operation are from the refund's metadata. They are empty
	// if it isn't ours.
	Account, Ride, Operation string
	Amount                   int64 // in the currency's smallest unit
	// Counts means that the money is back or on its way.
	Counts bool
}

// AllRefunds hands every page of the refunds that Stripe made since 30 days before
// a time to read, the newest first. It returns an error unless all pages were
// read.
func (s *Stripe) AllRefunds(ctx context.Context, since time.Time, read func([]RefundSeen) error) error {
	params := &stripe.RefundListParams{CreatedRange: sinceEarlierLife(since)}
	return s.refunds().all(ctx, params, func(page []*stripe.Refund) error {
		refunds := make([]RefundSeen, 0, len(page))
		for _, r := range page {
			seen := RefundSeen{
				ID: r.ID, Account: r.Metadata["account_id"], Ride: r.Metadata["ride_id"], Operation: r.Metadata["operation"],
				Amount: r.Amount, Counts: !refundSeen{status: r.Status}.failed(),
			}
			if r.PaymentIntent != nil {
				seen.IntentID = r.PaymentIntent.ID
			}
			refunds = append(refunds, seen)
		}
		return read(refunds)
	})
}
