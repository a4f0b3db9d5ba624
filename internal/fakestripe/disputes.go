package fakestripe

import (
	"slices"
)

// The statuses of a dispute that the fake treats in a special way. One that
// begins with "warning_" is an inquiry
// (https://docs.stripe.com/api/disputes/object#dispute_object-status).
const (
	needsResponse = "needs_response"
	won           = "won"
)

// disputeStatuses returns the statuses of a dispute. While it has one of those
// in inquiries, and when the merchant has won, the charge can be refunded.
func disputeStatuses() []string {
	return append(inquiries(), needsResponse, "under_review", won, "lost")
}

// inquiries returns the statuses of an inquiry.
func inquiries() []string {
	return []string{"warning_needs_response", "warning_under_review", "warning_closed"}
}

// dispute disputes the charge of a payment intent, or gives the dispute that
// there is another status.
func (t *tx) dispute(id, status string) error {
	if status == "" {
		status = needsResponse
	}
	found := t.state.intents.get(id)
	switch {
	case found == nil:
		return notFound("payment_intent", id)
	case found.Status != succeeded:
		return unexpectedState(found, "The payment intent %s has a status of %s; only a succeeded one can be disputed.", id, found.Status)
	case !slices.Contains(disputeStatuses(), status):
		return invalid("status", "", "A dispute has no status %q.", status)
	}
	ch := *t.charge(found.LatestCharge.id)
	d := &dispute{
		ID: newID("dp"), Object: "dispute", Amount: ch.Amount, Charge: ref{id: ch.ID}, Created: t.created(), Currency: ch.Currency,
		Metadata: map[string]string{}, PaymentIntent: ref{id: id}, Reason: "fraudulent",
	}
	for earlier := range t.state.disputes.all() {
		if earlier.PaymentIntent.id == id {
			*d = *earlier
		}
	}
	d.Status, d.IsChargeRefundable = status, slices.Contains(inquiries(), status)
	ch.Disputed = true
	t.change.Charges = append(t.change.Charges, &ch)
	t.change.Disputes = append(t.change.Disputes, d)
	return nil
}

// blocked reports whether a dispute keeps a charge from being refunded.
func (t *tx) blocked(charge string) bool {
	for d := range t.state.disputes.all() {
		if d.Charge.id == charge && !d.IsChargeRefundable && d.Status != won {
			return true
		}
	}
	return false
}

// readDispute shows the dispute in the path.
func readDispute(t *tx) (any, error) {
	d := t.state.disputes.get(t.id)
	if d == nil {
		return nil, notFound("dispute", t.id)
	}
	return t.showDispute(d), nil
}

// listDisputes lists disputes.
func listDisputes(t *tx) (any, error) {
	intent, id := t.knownIntent(), t.knownCharge()
	return page(t, "/v1/disputes", &t.state.disputes, func(d *dispute) (int64, bool) {
		return d.Created, (intent == "" || d.PaymentIntent.id == intent) && (id == "" || d.Charge.id == id)
	}, func(d *dispute) any { return t.showDispute(d) })
}

// showDispute returns the dispute, with the fields expanded that the request
// names.
func (t *tx) showDispute(d *dispute) *dispute {
	shown := *d
	if t.expand["charge"] {
		shown.Charge.object = t.charge(d.Charge.id)
	}
	if t.expand["payment_intent"] {
		shown.PaymentIntent.object = t.state.intents.get(d.PaymentIntent.id)
	}
	return &shown
}
