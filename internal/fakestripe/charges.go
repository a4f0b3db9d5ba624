package fakestripe

// readCharge shows the charge in the path.
func readCharge(t *tx) (any, error) {
	c := t.state.charges.get(t.id)
	if c == nil {
		return nil, notFound("charge", t.id)
	}
	return t.showCharge(c), nil
}

// listCharges lists charges.
func listCharges(t *tx) (any, error) {
	customer := t.customer(t.form.text("customer"))
	intent := t.knownIntent()
	return page(t, "/v1/charges", &t.state.charges, func(c *charge) (int64, bool) {
		return c.Created, (customer == "" || c.Customer.id == customer) && (intent == "" || c.PaymentIntent.id == intent)
	}, func(c *charge) any { return t.showCharge(c) })
}

// knownIntent returns the parameter payment_intent, or "". If there is no such
// payment intent, the form keeps the error.
func (t *tx) knownIntent() string {
	id := t.form.text("payment_intent")
	if id != "" && t.state.intents.get(id) == nil {
		t.form.reject(noSuch("payment_intent", id, "payment_intent"))
	}
	return id
}

// knownCharge returns the parameter charge, or "". If there is no such charge,
// the form keeps the error.
func (t *tx) knownCharge() string {
	id := t.form.text("charge")
	if id != "" && t.state.charges.get(id) == nil {
		t.form.reject(noSuch("charge", id, "charge"))
	}
	return id
}

// showCharge returns the charge, with the fields expanded that the request
// names.
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
