package fakestripe

import (
	"maps"
	"slices"
)

// createIntent makes a payment intent, and confirms it if the request wants
// that.
func createIntent(t *tx) (any, error) {
	pi := t.newIntent()
	ask := t.readConfirmation()
	if t.form.err != nil {
		return nil, t.form.err
	}
	t.change.Intents = append(t.change.Intents, pi)
	if !t.form.boolean("confirm") {
		return t.unconfirmed(pi, ask.method)
	}
	if err := t.confirm(pi, ask); err != nil {
		return nil, err
	}
	return t.showIntent(pi), nil
}

// newIntent returns a payment intent with the parameters of the request. The
// form keeps the error if one is wrong.
func (t *tx) newIntent() *paymentIntent {
	f := t.form
	id := newID("pi")
	f.oneOf("capture_method", "automatic", "automatic_async")
	f.oneOf("confirmation_method", "automatic")
	return &paymentIntent{
		ID: id, Object: "payment_intent", ClientSecret: id + "_secret_fake", Created: t.created(),
		Amount: readAmount(f), Currency: f.required("currency"), Customer: ref{id: t.customer(f.text("customer"))},
		Description: optional(f.text("description")), Metadata: f.hash,
		AutomaticPaymentMethods: readAutomatic(f), PaymentMethodTypes: readTypes(f),
		CaptureMethod: "automatic", ConfirmationMethod: "automatic", Status: requiresPaymentMethod,
	}
}

// readTypes returns the payment method types; only cards are known.
func readTypes(f *form) []string {
	if types := f.list("payment_method_types", "card"); len(types) > 0 {
		return types
	}
	return []string{"card"}
}

// readAutomatic returns the automatic payment methods. Since API version
// 2023-08-16 they are enabled unless payment_method_types is given.
func readAutomatic(f *form) *automaticMethods {
	enabled := f.boolean("automatic_payment_methods[enabled]")
	redirects := f.oneOf("automatic_payment_methods[allow_redirects]", "always", "never")
	typed := len(f.lists["payment_method_types"]) > 0
	switch {
	case typed && enabled:
		f.reject(invalid("", "", "You may only specify one of these parameters: automatic_payment_methods, payment_method_types."))
	case redirects != "" && !f.has("automatic_payment_methods[enabled]"):
		f.reject(missing("automatic_payment_methods[enabled]"))
	}
	if typed || f.text("automatic_payment_methods[enabled]") == "false" {
		return nil
	}
	if redirects == "" {
		redirects = "always"
	}
	return &automaticMethods{AllowRedirects: redirects, Enabled: true}
}

// unconfirmed completes a new payment intent that is not confirmed.
func (t *tx) unconfirmed(pi *paymentIntent, method string) (any, error) {
	if method != "" {
		if err := t.use(pi, method); err != nil {
			return nil, err
		}
		pi.Status = requiresConfirmation
	}
	return t.showIntent(pi), nil
}

// readIntent shows the payment intent in the path.
func readIntent(t *tx) (any, error) {
	pi := t.state.intents.get(t.id)
	if pi == nil {
		return nil, notFound("payment_intent", t.id)
	}
	return t.showIntent(pi), nil
}

// listIntents lists payment intents.
func listIntents(t *tx) (any, error) {
	customer := t.customer(t.form.text("customer"))
	return page(t, "/v1/payment_intents", &t.state.intents, func(pi *paymentIntent) (int64, bool) {
		return pi.Created, customer == "" || pi.Customer.id == customer
	}, func(pi *paymentIntent) any { return t.showIntent(pi) })
}

// intent returns a copy of the payment intent in the path, which the caller may
// change.
func (t *tx) intent() (*paymentIntent, error) {
	found := t.state.intents.get(t.id)
	if found == nil {
		return nil, notFound("payment_intent", t.id)
	}
	pi := *found
	t.change.Intents = append(t.change.Intents, &pi)
	return &pi, nil
}

// cancelIntent cancels the payment intent in the path.
func cancelIntent(t *tx) (any, error) {
	reason := t.form.oneOf("cancellation_reason", "duplicate", "fraudulent", "requested_by_customer", "abandoned")
	if t.form.err != nil {
		return nil, t.form.err
	}
	pi, err := t.intent()
	if err != nil {
		return nil, err
	}
	cancelable := []string{requiresPaymentMethod, requiresConfirmation, requiresAction}
	if !slices.Contains(cancelable, pi.Status) {
		return nil, unexpectedState(pi, "You cannot cancel this PaymentIntent because it has a status of %s. "+
			"Only a PaymentIntent with one of the following statuses may be canceled: "+
			"requires_payment_method, requires_capture, requires_confirmation, requires_action.", pi.Status)
	}
	pi.Status, pi.CanceledAt, pi.CancellationReason, pi.NextAction = canceled, new(t.created()), optional(reason), nil
	return t.showIntent(pi), nil
}

// showIntent returns the payment intent, with the fields expanded that the
// request names.
func (t *tx) showIntent(pi *paymentIntent) *paymentIntent {
	shown := *pi
	if c := t.charge(pi.LatestCharge.id); c != nil && t.expand["latest_charge"] {
		shown.LatestCharge.object = c
	}
	if c := t.state.customers.get(pi.Customer.id); c != nil && t.expand["customer"] {
		shown.Customer.object = c
	}
	if m := t.method(pi.PaymentMethod.id); m != nil && t.expand["payment_method"] {
		shown.PaymentMethod.object = m.shape()
	}
	return &shown
}

// newCharge adds an attempt to pay the intent. It copies what the charge shares
// with the intent, also the metadata, as Stripe does.
func (t *tx) newCharge(pi *paymentIntent, m *paymentMethod, c card) *charge {
	ch := &charge{
		ID: newID("ch"), Object: "charge", Amount: pi.Amount, Created: t.created(), Currency: pi.Currency,
		Customer: ref{id: pi.Customer.id}, Description: pi.Description, Metadata: maps.Clone(pi.Metadata),
		PaymentIntent: ref{id: pi.ID}, PaymentMethod: m.ID,
		PaymentMethodDetails: methodDetails{Card: c.shape(), Type: "card"}, Status: pending,
	}
	t.change.Charges = append(t.change.Charges, ch)
	pi.LatestCharge = ref{id: ch.ID}
	return ch
}

// pay makes an attempt succeed.
func pay(pi *paymentIntent, ch *charge) {
	pi.Status, pi.AmountReceived, pi.LastPaymentError, pi.NextAction = succeeded, pi.Amount, nil, nil
	ch.Status, ch.Paid, ch.Captured, ch.AmountCaptured = succeeded, true, true, ch.Amount
	ch.Outcome = &outcome{
		NetworkStatus: "approved_by_network", RiskLevel: "normal", SellerMessage: "Payment complete.", Type: "authorized",
	}
}

// fail makes an attempt fail. The payment intent stays, and may be confirmed
// again with another payment method.
func fail(pi *paymentIntent, ch *charge, declineCode string, m *paymentMethod) {
	f := decline(declineCode)
	f.Charge, f.PaymentMethod = ch.ID, m.shape()
	pi.Status, pi.PaymentMethod, pi.NextAction = requiresPaymentMethod, ref{}, nil
	pi.LastPaymentError = &f
	ch.Status, ch.FailureCode, ch.FailureMessage = failed, optional(f.Code), optional(f.Message)
	ch.Outcome = &outcome{
		NetworkStatus: "declined_by_network", Reason: optional(f.DeclineCode), RiskLevel: "normal",
		SellerMessage: "The bank did not approve the payment.", Type: "issuer_declined",
	}
}
