package fakestripe

func readCharge(t *tx) (any, error) {
	c := t.state.charges.get(t.id)
	if c == nil {
		return nil, notFound("charge", t.id)
	}
	return t.showCharge(c), nil
}

func listCharges(t *tx) (any, error) {
	customer := t.customer(t.form.text("customer"))
	intent := t.knownIntent()
	return page(t, "/v1/charges", &t.state.charges, func(c *charge) (int64, bool) {
		return c.Created, (customer == "" || c.Customer.id == customer) && (intent == "" || c.PaymentIntent.id == intent)
	}, func(c *charge) any { return t.showCharge(c) })
}

// knownIntent returns the parameter payment_intent, which must name one that
// exists if it is sent.
func (t *tx) knownIntent() string {
	id := t.form.text("payment_intent")
	if id != "" && t.state.intents.get(id) == nil {
		t.form.reject(noSuch("payment_intent", id, "payment_intent"))
	}
	return id
}

// knownCharge is knownIntent for charges.
func (t *tx) knownCharge() string {
	id := t.form.text("charge")
	if id != "" && t.state.charges.get(id) == nil {
		t.form.reject(noSuch("charge", id, "charge"))
	}
	return id
}

func (t *tx) showCharge(c *charge) *charge {
	shown := *c
	if found := t.state.customers.get(c.Customer.id); found != nil && t.expand["customer"] {
		shown.Customer.object = found
	}
	if t.expand["payment_intent"] {
		shown.PaymentIntent.object = t.state.intents.get(c.PaymentIntent.id)
	}
	return &shown
}

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
	ch, err := t.refundable(intent, id)
	if err != nil {
		return nil, err
	}
	if amount, err = refundAmount(ch, amount); err != nil {
		return nil, err
	}
	ch.AmountRefunded += amount
	ch.Refunded = ch.AmountRefunded == ch.Amount
	r := &refund{
		ID: newID("re"), Object: "refund", Amount: amount, Charge: ref{id: ch.ID}, Created: t.created(), Currency: ch.Currency,
		Metadata: t.form.hash, PaymentIntent: ref{id: ch.PaymentIntent.id}, Reason: optional(reason), Status: succeeded,
	}
	t.change.Charges = append(t.change.Charges, ch)
	t.change.Refunds = append(t.change.Refunds, r)
	return t.showRefund(r), nil
}

// refundable returns a copy of the succeeded charge that a refund names, either
// itself or by its payment intent.
func (t *tx) refundable(intent, id string) (*charge, error) {
	if intent != "" {
		id = t.state.intents.get(intent).LatestCharge.id
	}
	found := t.state.charges.get(id)
	switch {
	case found == nil || found.Status != succeeded && intent != "":
		return nil, unexpectedState(t.state.intents.get(intent), "This PaymentIntent (%s) does not have a successful charge to refund.", intent)
	case found.Status != succeeded:
		return nil, invalid("charge", "", "This charge (%s) has not succeeded, so it cannot be refunded.", id)
	case found.Disputed:
		return nil, invalid("", "charge_disputed", "Charge %s has been charged back; cannot issue a refund.", id)
	}
	ch := *found
	return &ch, nil
}

// refundAmount returns how much to refund; 0 asks for all that is left.
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

func readRefund(t *tx) (any, error) {
	r := t.state.refunds.get(t.id)
	if r == nil {
		return nil, notFound("refund", t.id)
	}
	return t.showRefund(r), nil
}

func listRefunds(t *tx) (any, error) {
	intent, id := t.knownIntent(), t.knownCharge()
	return page(t, "/v1/refunds", &t.state.refunds, func(r *refund) (int64, bool) {
		return r.Created, (intent == "" || r.PaymentIntent.id == intent) && (id == "" || r.Charge.id == id)
	}, func(r *refund) any { return t.showRefund(r) })
}

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
