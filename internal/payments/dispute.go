package payments

import (
	"context"

	stripe "github.com/stripe/stripe-go/v76"
)

// A Dispute is what the disputes of one payment amount to.
type Dispute struct {
	// Open means that the card's holder contests the charge, or has won.
	Open bool
	// Refuses means that Stripe doesn't refund the charge because of that. An
	// inquiry doesn't keep it from that.
	Refuses bool
}

// DisputeOf returns what the disputes of a payment amount to.
func (s *Stripe) DisputeOf(ctx context.Context, intentID string) (Dispute, error) {
	var found Dispute
	others := false
	o, _ := s.disputes().pages(ctx, disputeParams(intentID), func(page []*stripe.Dispute) error {
		for _, d := range page {
			found.add(d)
			others = others || d.PaymentIntent == nil || d.PaymentIntent.ID != intentID || d.Livemode != s.Live()
		}
		return nil
	})
	if others {
		o.distrust()
	}
	if s.countRow(o).then != verdictYes {
		return Dispute{}, o.asError()
	}
	return found, nil
}

// disputes returns a listing of disputes.
func (s *Stripe) disputes() *listing[stripe.Dispute] {
	return newListing(s, callDisputes, "/v1/disputes", func(d *stripe.Dispute) string { return d.ID })
}

func disputeParams(intentID string) *stripe.DisputeListParams {
	return &stripe.DisputeListParams{PaymentIntent: new(intentID)}
}

// add adds a dispute. One that was won, and an inquiry that was closed, are
// over.
func (d *Dispute) add(dispute *stripe.Dispute) {
	if dispute.Status == stripe.DisputeStatusWon || dispute.Status == stripe.DisputeStatusWarningClosed {
		return
	}
	d.Open = true
	d.Refuses = d.Refuses || !dispute.IsChargeRefundable
}

// disputesRows judge the disputes of a payment.
func disputesRows() []resultRow {
	return []resultRow{{name: "disputes_read", then: verdictYes, when: (*observation).hasObject}}
}
