package fakestripe

import (
	"net/http"
	"strings"
)

// route is one endpoint: the parameters that it accepts, the fields that it can
// expand, and what it does. A parameter that is not listed is refused.
type route struct {
	method  string
	path    string // "{id}" stands for one segment
	accepts []string
	expands []string
	run     func(t *tx) (any, error)
}

// routes returns all endpoints of Stripe's that the fake has.
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
		{get, "/v1/disputes", paged("payment_intent", "charge"), inData(ofRefund), listDisputes},
		{get, "/v1/disputes/{id}", nil, ofRefund, readDispute},
		{get, "/v1/events", paged("type"), nil, listNotices},
		{get, "/v1/events/{id}", nil, nil, readNotice},
	}
}

// paged returns the parameters of a list that has the given filters.
func paged(filters ...string) []string {
	return append(filters, "created", "created[gt]", "created[gte]", "created[lt]", "created[lte]",
		"limit", "starting_after", "ending_before")
}

// inData returns the names by which a list expands fields of its elements.
func inData(names []string) []string {
	prefixed := make([]string, 0, len(names))
	for _, name := range names {
		prefixed = append(prefixed, "data."+name)
	}
	return prefixed
}

// find returns the route of a request, or nil, and the id in its path.
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

// match returns the id in a path, and reports whether the path is the route's.
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
