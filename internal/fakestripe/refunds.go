package fakestripe

import (
	"cmp"
	"slices"
)

// refundStatuses returns the statuses of a refund
// (https://docs.stripe.com/api/refunds/object#refund_object-status).
func refundStatuses() []string { return []string{pending, requiresAction, succeeded, failed, canceled} }

// createRefund refunds a charge, in part or in full.
func createRefund(t *tx) (any, error) {
	intent, id, amount := t.knownIntent(), t.knownCharge(), t.form.integer("amount")
	reason := t.form.oneOf("reason", "duplicate", "fraudulent", "requested_by_customer")
	if (intent == "") == (id == "") {
		t.form.reject(invalid("", "parameter_missing",
			"One of the following params should be provided for this request: payment_intent or charge."))
	}
	if t.form.err != nil {
		return nil, t.form.err
	}
	r, err := t.refund(intent, id, amount)
	if err != nil {
		return nil, err
	}
	r.Reason = optional(reason)
	return t.showRefund(r), nil
}

// refund refunds the charge that is named by its payment intent or its id. An
// amount of 0 means all that is left.
func (t *tx) refund(intent, id string, amount int64) (*refund, error) {
	ch, err := t.refundable(intent, id)
	if err != nil {
		return nil, err
	}
	if amount, err = refundAmount(ch, amount); err != nil {
		return nil, err
	}
	r := &refund{
		ID: newID("re"), Object: "refund", Amount: amount, Charge: ref{id: ch.ID}, Created: t.created(), Currency: ch.Currency,
		Metadata: t.form.hash, PaymentIntent: ref{id: ch.PaymentIntent.id},
	}
	r.become(cmp.Or(t.refundStatus, succeeded))
	ch.count(r, 1)
	t.change.Charges = append(t.change.Charges, ch)
	t.change.Refunds = append(t.change.Refunds, r)
	if t.refundThen != "" {
		due := t.now.Add(t.refundAfter).UnixNano()
		t.change.Later = append(t.change.Later, effect{ID: newID("eff"), Due: due, Refund: r.ID, Then: t.refundThen})
	}
	return r, nil
}

// count adds a refund to what was refunded of the charge, or takes it back. A
// refund counts from its beginning, and no longer when it has failed or was
// canceled.
func (c *charge) count(r *refund, sign int64) {
	if r.Status != failed && r.Status != canceled {
		c.AmountRefunded += sign * r.Amount
		c.Refunded = c.AmountRefunded == c.Amount
	}
}

// become gives the refund a status.
func (r *refund) become(status string) {
	r.Status, r.FailureReason = status, ""
	if status == failed {
		r.FailureReason = "unknown"
	}
}

// changeRefund gives a refund another status.
func (t *tx) changeRefund(id, status string) error {
	found := t.state.refunds.get(id)
	switch {
	case found == nil:
		return notFound("refund", id)
	case !slices.Contains(refundStatuses(), status):
		return invalid("status", "", "A refund has no status %q.", status)
	case found.Status == failed || found.Status == canceled:
		return invalid("status", "", "The refund %s has a status of %s, which is final.", id, found.Status)
	}
	r, ch := *found, *t.charge(found.Charge.id)
	ch.count(&r, -1)
	r.become(status)
	ch.count(&r, 1)
	t.change.Refunds = append(t.change.Refunds, &r)
	t.change.Charges = append(t.change.Charges, &ch)
	return nil
}

// refundable returns a copy of the succeeded charge that a refund names by its
// id or by its payment intent.
func (t *tx) refundable(intent, id string) (*charge, error) {
	if intent != "" {
		found := t.state.intents.get(intent)
		if found == nil {
			return nil, notFound("payment_intent", intent)
		}
		id = found.LatestCharge.id
	}
	found := t.state.charges.get(id)
	switch {
	case found == nil || found.Status != succeeded && intent != "":
		return nil, unexpectedState(t.state.intents.get(intent), "This PaymentIntent (%s) does not have a successful charge to refund.", intent)
	case found.Status != succeeded:
		return nil, invalid("charge", "", "This charge (%s) has not succeeded, so it cannot be refunded.", id)
	case t.blocked(id):
		return nil, invalid("", "charge_disputed", "Charge %s has been charged back; cannot issue a refund.", id)
	}
	ch := *found
	return &ch, nil
}

// refundAmount returns how much is refunded; an amount of 0 means all that is
// left.
func refundAmount(ch *charge, amount int64) (int64, error) {
	left := ch.Amount - ch.AmountRefunded
	switch {
	case left == 0:
		return 0, invalid("", "charge_already_refunded", "Charge %s has already been refunded.", ch.ID)
	case amount > left:
		return 0, invalid("amount", "amount_too_large",
			"Refund amount (%d) is greater than unrefunded amount on charge (%d).", amount, left)
	case amount == 0:
		return left, nil
	}
	return amount, nil
}

// readRefund shows the refund in the path.
func readRefund(t *tx) (any, error) {
	r := t.state.refunds.get(t.id)
	if r == nil {
		return nil, notFound("refund", t.id)
	}
	return t.showRefund(r), nil
}

// listRefunds lists refunds.
func listRefunds(t *tx) (any, error) {
	intent, id := t.knownIntent(), t.knownCharge()
	return page(t, "/v1/refunds", &t.state.refunds, func(r *refund) (int64, bool) {
		return r.Created, (intent == "" || r.PaymentIntent.id == intent) && (id == "" || r.Charge.id == id)
	}, func(r *refund) any { return t.showRefund(r) })
}

// showRefund returns the refund, with the fields expanded that the request
// names.
func (t *tx) showRefund(r *refund) *refund {
	shown := *r
	if t.expand["charge"] {
		shown.Charge.object = t.charge(r.Charge.id)
	}
	if t.expand["payment_intent"] {
		shown.PaymentIntent.object = t.state.intents.get(r.PaymentIntent.id)
	}
	return &shown
}
