package payments

import (
	"context"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// RefundsAndDisputes hands the id of every refund and every dispute that Stripe
// made since a time to read. It returns an error unless all pages were read.
func (s *Stripe) RefundsAndDisputes(ctx context.Context, since time.Time, read func(kind ObjectKind, id string) error) error {
	from := &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()}
	err := s.refunds().all(ctx, &stripe.RefundListParams{CreatedRange: from}, func(page []*stripe.Refund) error {
		for _, refund := range page {
			if err := read(ObjectRefund, refund.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.disputes().all(ctx, &stripe.DisputeListParams{CreatedRange: from}, func(page []*stripe.Dispute) error {
		for _, dispute := range page {
			if err := read(ObjectDispute, dispute.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
