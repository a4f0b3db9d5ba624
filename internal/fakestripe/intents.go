package fakestripe

import (
	"maps"
	"slices"
)

// maxAmount is Stripe's limit of eight digits for an amount.
const maxAmount = 99_999_999

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

// newIntent reads the parameters that make a payment intent; the form remembers
// what is wrong with them.
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

func readAmount(f *form) int64 {
	f.required("amount")
	amount, currency := f.integer("amount"), f.text("currency")
	least, known := minimum(currency)
	switch {
	case f.has("currency") && !known:
		f.reject(invalid("currency", "", "Invalid currency: %s. The fake knows the usual ones, in lower case.", currency))
	case amount < least:
		f.reject(invalid("amount", "amount_too_small", "Amount must be at least %d in the smallest unit of %s.", least, currency))
	case amount > maxAmount:
		f.reject(invalid("amount", "amount_too_large", "Amount must be no more than %d.", maxAmount))
	}
	return amount
}

func readTypes(f *form) []string {
	if types := f.list("payment_method_types", "card"); len(types) > 0 {
		return types
	}
	return []string{"card"}
}

// readAutomatic returns the automatic payment methods, which since API version
// 2023-08-16 are on unless payment_method_types is given.
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

// unconfirmed ends the creation of a payment intent that nobody pays yet.
func (t *tx) unconfirmed(pi *paymentIntent, method string) (any, error) {
	if method != "" {
		if err := t.use(pi, method); err != nil {
			return nil, err
		}
		pi.Status = requiresConfirmation
	}
	return t.showIntent(pi), nil
}

func readIntent(t *tx) (any, error) {
	pi := t.state.intents.get(t.id)
	if pi == nil {
		return nil, notFound("payment_intent", t.id)
	}
	return t.showIntent(pi), nil
}

func listIntents(t *tx) (any, error) {
	customer := t.customer(t.form.text("customer"))
	return page(t, "/v1/payment_intents", &t.state.intents, func(pi *paymentIntent) (int64, bool) {
		return pi.Created, customer == "" || pi.Customer.id == customer
	}, func(pi *paymentIntent) any { return t.showIntent(pi) })
}

// intent returns a copy of the payment intent in the path, for changing it.
func (t *tx) intent() (*paymentIntent, error) {
	found := t.state.intents.get(t.id)
	if found == nil {
		return nil, notFound("payment_intent", t.id)
	}
	pi := *found
	t.change.Intents = append(t.change.Intents, &pi)
	return &pi, nil
}

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

// showIntent returns the payment intent as the request wants to see it.
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

// newCharge makes an attempt to pay the intent. What it shares with the intent
// is copied at this moment, metadata too, as Stripe does.
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

// pay ends an attempt well.
func pay(pi *paymentIntent, ch *charge) {
	pi.Status, pi.AmountReceived, pi.LastPaymentError, pi.NextAction = succeeded, pi.Amount, nil, nil
	ch.Status, ch.Paid, ch.Captured, ch.AmountCaptured = succeeded, true, true, ch.Amount
	ch.Outcome = &outcome{
		NetworkStatus: "approved_by_network", RiskLevel: "normal", SellerMessage: "Payment complete.", Type: "authorized",
	}
}

// fail ends an attempt badly. The payment intent stays and may be confirmed
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
