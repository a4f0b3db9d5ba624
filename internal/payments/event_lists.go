package payments

import (
	"context"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// Changed hands the id of every refund and every dispute that Stripe made since a
// time to read. It returns an error unless all pages were read.
func (s *Stripe) Changed(ctx context.Context, since time.Time, read func(kind ObjectKind, id string) error) error {
	from := &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()}
	o, err := s.refunds().pages(ctx, &stripe.RefundListParams{CreatedRange: from}, func(page []*stripe.Refund) error {
		for _, refund := range page {
			if err := read(ObjectRefund, refund.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !o.hasObject() {
		return orError(err, o)
	}
	o, err = s.disputes().pages(ctx, &stripe.DisputeListParams{CreatedRange: from}, func(page []*stripe.Dispute) error {
		for _, dispute := range page {
			if err := read(ObjectDispute, dispute.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !o.hasObject() {
		return orError(err, o)
	}
	return nil
}

// orError returns err, or what kept the list from being read.
func orError(err error, o *observation) error {
	if err != nil {
		return err
	}
	return o.asError()
}
