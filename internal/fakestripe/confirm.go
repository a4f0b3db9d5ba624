package fakestripe

// confirmation is how a payment intent is to be paid.
type confirmation struct {
	method        string
	offSession    bool
	errorOnAction bool
	returnURL     string
}

// readConfirmation reads the parameters of a confirmation. Those that say how
// to confirm are refused if the request confirms nothing.
func (t *tx) readConfirmation() confirmation {
	if t.id == "" && !t.form.boolean("confirm") {
		for _, name := range []string{"off_session", "error_on_requires_action", "return_url"} {
			if t.form.has(name) {
				t.form.reject(invalid(name, "", "You can only pass `%s` when `confirm` is `true`.", name))
			}
		}
	}
	return confirmation{
		method:        t.form.text("payment_method"),
		offSession:    t.form.boolean("off_session"),
		errorOnAction: t.form.boolean("error_on_requires_action"),
		returnURL:     t.form.text("return_url"),
	}
}

// confirmIntent confirms the payment intent in the path.
func confirmIntent(t *tx) (any, error) {
	ask := t.readConfirmation()
	if t.form.err != nil {
		return nil, t.form.err
	}
	pi, err := t.intent()
	if err != nil {
		return nil, err
	}
	if err := t.confirm(pi, ask); err != nil {
		return nil, err
	}
	return t.showIntent(pi), nil
}

// confirm tries to pay the intent. A decline is an error, but it is the outcome
// of an execution: the intent and its failed charge stay.
func (t *tx) confirm(pi *paymentIntent, ask confirmation) error {
	switch pi.Status {
	case requiresPaymentMethod, requiresConfirmation, requiresAction:
	case succeeded:
		return unexpectedState(pi, "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.")
	default:
		return unexpectedState(pi, "You cannot confirm this PaymentIntent because it has a status of %s.", pi.Status)
	}
	if t.refusedIntent {
		t.refused.PaymentIntent = pi
		return t.refused
	}
	if a := pi.AutomaticPaymentMethods; a != nil && a.AllowRedirects != "never" && ask.returnURL == "" {
		return invalid("", "", "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. "+
			"Because some of these payment methods might redirect your customer off of your page, you must provide a `return_url`. "+
			"If you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` "+
			"and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.")
	}
	if err := t.use(pi, ask.method); err != nil {
		return err
	}
	return t.attempt(pi, t.method(pi.PaymentMethod.id), ask)
}

// use sets the payment method of an intent; "" keeps the one that it has.
func (t *tx) use(pi *paymentIntent, id string) error {
	if id == "" && pi.PaymentMethod.id == "" {
		return invalid("payment_method", "parameter_missing", "You cannot confirm this PaymentIntent because it's missing a payment method. "+
			"You can either update the PaymentIntent with a payment method and then confirm it again, "+
			"or confirm it again directly with a payment method.")
	}
	if id == "" {
		return nil
	}
	m, err := t.resolve(id)
	switch {
	case err != nil:
		return err
	case m.Detached:
		return detached()
	case m.Customer != "" && pi.Customer.id == "":
		return invalid("payment_method", "", "The PaymentMethod provided (%s) belongs to a Customer. "+
			"Please include the Customer in the `customer` parameter on the PaymentIntent.", m.ID)
	case m.Customer != "" && m.Customer != pi.Customer.id:
		return invalid("payment_method", "resource_missing", "The customer does not have a payment method with the ID %s. "+
			"The payment method must be attached to the customer.", m.ID)
	}
	if m.ID != id {
		t.change.Methods = append(t.change.Methods, m)
	}
	pi.PaymentMethod = ref{id: m.ID}
	return nil
}

// attempt makes a charge, whose end the test card decides, or a fault.
func (t *tx) attempt(pi *paymentIntent, m *paymentMethod, ask confirmation) error {
	c, _ := cardOf(m.Token)
	if t.scripted != "" {
		c.verdict, c.declineCode = declines, t.scripted
	}
	switch c.verdict {
	case authenticates:
		return t.authenticate(pi, m, c, ask)
	case declines:
		return t.decline(pi, m, c)
	case defers:
		t.newCharge(pi, m, c)
		pi.Status, pi.LastPaymentError, pi.NextAction = processing, nil, nil
		t.settleLater(pi.ID)
	case approves:
		pay(pi, t.newCharge(pi, m, c))
	}
	return nil
}

// decline makes a failed charge.
func (t *tx) decline(pi *paymentIntent, m *paymentMethod, c card) error {
	fail(pi, t.newCharge(pi, m, c), c.declineCode, m)
	return cardError(*pi.LastPaymentError, pi)
}

// authenticate asks the customer to prove who they are. Off session there is
// nobody to ask, so it declines.
func (t *tx) authenticate(pi *paymentIntent, m *paymentMethod, c card, ask confirmation) error {
	if ask.offSession {
		c.declineCode = "authentication_required"
		return t.decline(pi, m, c)
	}
	if ask.errorOnAction {
		f := decline("authentication_required")
		f.PaymentMethod = m.shape()
		pi.Status, pi.PaymentMethod, pi.LastPaymentError = requiresPaymentMethod, ref{}, &f
		return cardError(f, pi)
	}
	pi.Status, pi.LastPaymentError = requiresAction, nil
	pi.NextAction = &nextAction{Type: "use_stripe_sdk", UseStripeSDK: map[string]string{"type": "three_d_secure_redirect"}}
	return nil
}

// settleLater adds the effect that ends a processing payment. Without
// Options.SettleAfter the payment waits for a call of Settle or Decline.
func (t *tx) settleLater(intent string) {
	if t.settleAfter > 0 {
		due := t.now.Add(t.settleAfter).UnixNano()
		t.change.Later = append(t.change.Later, effect{ID: newID("eff"), Due: due, Settle: intent})
	}
}

// settle ends a processing payment: it succeeds, or fails with a decline code.
func (t *tx) settle(id, declineCode string) error {
	found := t.state.intents.get(id)
	if found == nil {
		return notFound("payment_intent", id)
	}
	if found.Status != processing {
		return unexpectedState(found, "The payment intent %s has a status of %s; only a processing one can be settled.", id, found.Status)
	}
	pi, ch := *found, *t.charge(found.LatestCharge.id)
	if declineCode == "" {
		pay(&pi, &ch)
	} else {
		fail(&pi, &ch, declineCode, t.method(ch.PaymentMethod))
	}
	t.change.Intents = append(t.change.Intents, &pi)
	t.change.Charges = append(t.change.Charges, &ch)
	return nil
}
