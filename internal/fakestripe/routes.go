package fakestripe

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// route is one endpoint: what it accepts and what it does. A parameter that is
// not listed is refused.
type route struct {
	method  string
	path    string // "{id}" stands for one segment
	accepts []string
	expands []string
	run     func(t *tx) (any, error)
}

// routes returns every endpoint of Stripe's that the fake has.
func routes() []route {
	const get, post = http.MethodGet, http.MethodPost
	ofIntent := []string{"latest_charge", "customer", "payment_method"}
	ofCharge := []string{"customer", "payment_intent"}
	ofRefund := []string{"charge", "payment_intent"}
	return []route{
		{post, "/v1/customers", []string{"email", "name", "description", "metadata", "payment_method"}, nil, createCustomer},
		{get, "/v1/customers", paged("email"), nil, listCustomers},
		{get, "/v1/account", nil, nil, readAccount},
		{get, "/v1/customers/{id}", nil, nil, readCustomer},
		{get, "/v1/payment_methods/{id}", nil, nil, readMethod},
		{post, "/v1/payment_methods/{id}/attach", []string{"customer"}, nil, attachMethod},
		{post, "/v1/payment_methods/{id}/detach", nil, nil, detachMethod},
		{post, "/v1/payment_intents", []string{
			"amount", "currency", "customer", "description", "metadata", "payment_method", "payment_method_types[]",
			"automatic_payment_methods[enabled]", "automatic_payment_methods[allow_redirects]", "capture_method",
			"confirmation_method", "confirm", "off_session", "error_on_requires_action", "return_url",
		}, ofIntent, createIntent},
		{get, "/v1/payment_intents", paged("customer"), inData(ofIntent), listIntents},
		{get, "/v1/payment_intents/{id}", nil, ofIntent, readIntent},
		{
			post, "/v1/payment_intents/{id}/confirm",
			[]string{"payment_method", "off_session", "error_on_requires_action", "return_url"},
			ofIntent, confirmIntent,
		},
		{post, "/v1/payment_intents/{id}/cancel", []string{"cancellation_reason"}, ofIntent, cancelIntent},
		{get, "/v1/charges", paged("customer", "payment_intent"), inData(ofCharge), listCharges},
		{get, "/v1/charges/{id}", nil, ofCharge, readCharge},
		{post, "/v1/refunds", []string{"payment_intent", "charge", "amount", "reason", "metadata"}, ofRefund, createRefund},
		{get, "/v1/refunds", paged("payment_intent", "charge"), inData(ofRefund), listRefunds},
		{get, "/v1/refunds/{id}", nil, ofRefund, readRefund},
	}
}

// paged returns the parameters of a list with the given filters.
func paged(filters ...string) []string {
	return append(filters, "created", "created[gt]", "created[gte]", "created[lt]", "created[lte]",
		"limit", "starting_after", "ending_before")
}

// inData returns how a list spells the expandable fields of its elements.
func inData(names []string) []string {
	spelt := make([]string, 0, len(names))
	for _, name := range names {
		spelt = append(spelt, "data."+name)
	}
	return spelt
}

// find returns the route of a request and the id in its path, or nil.
func find(all []route, method, path string) (*route, string) {
	for i := range all {
		if all[i].method != method {
			continue
		}
		if id, ok := all[i].match(path); ok {
			return &all[i], id
		}
	}
	return nil, ""
}

// match tells whether a path is the route's, and which id stands in it.
func (r *route) match(path string) (string, bool) {
	before, after, hasID := strings.Cut(r.path, "{id}")
	if !hasID {
		return "", path == r.path
	}
	rest, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(rest, after)
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// tx is one execution of a route. It reads the state and collects its changes;
// nobody sees them before they are applied all together.
type tx struct {
	state       *state
	now         time.Time
	id          string // in the path
	form        *form
	expand      map[string]bool
	settleAfter time.Duration
	// scripted is the decline code that a fault forces on the next charge.
	scripted string
	// refused is the error with which a fault ends the execution; nil if none
	// does. With refusedIntent it comes when the payment intent is to be
	// confirmed, and shows it.
	refused       *apiError
	refusedIntent bool
	account       string // whose API key was sent
	change        change
}

// execute runs the route. An error is an *apiError; with one that executed (a
// declined card), the changes count as well.
func (t *tx) execute(r *route, fields []field) (any, error) {
	form, err := readForm(fields, append(slices.Clone(r.accepts), "expand[]"))
	if err != nil {
		return nil, err
	}
	t.form = form
	t.expand = map[string]bool{}
	for _, name := range form.list("expand", r.expands...) {
		t.expand[strings.TrimPrefix(name, "data.")] = true
	}
	if form.err != nil {
		return nil, form.err
	}
	if t.refused != nil && !t.refusedIntent {
		return nil, t.refused
	}
	return r.run(t)
}

// created returns the time for an object's created field.
func (t *tx) created() int64 { return t.now.Unix() }

// charge returns a charge, this execution's own included, or nil.
func (t *tx) charge(id string) *charge {
	for _, c := range t.change.Charges {
		if c.ID == id {
			return c
		}
	}
	return t.state.charges.get(id)
}

// method returns a payment method, this execution's own included, or nil.
func (t *tx) method(id string) *paymentMethod {
	for _, m := range t.change.Methods {
		if m.ID == id {
			return m
		}
	}
	return t.state.methods.get(id)
}

// customer returns the id of the customer that a parameter names, or "". The
// form remembers an error if there is no such customer.
func (t *tx) customer(id string) string {
	if c := t.state.customers.get(id); id != "" && (c == nil || c.Deleted) {
		t.form.reject(noSuch("customer", id, "customer"))
	}
	return id
}
