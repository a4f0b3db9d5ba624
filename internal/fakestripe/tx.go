package fakestripe

import (
	"slices"
	"strings"
	"time"
)

// tx is one execution of a route. It reads the state and collects its changes.
// They become visible all together, when they are committed.
type tx struct {
	state       *state
	now         time.Time
	id          string // in the path
	form        *form
	expand      map[string]bool
	settleAfter time.Duration
	// scripted is the decline code that a fault forces on the next charge.
	scripted string
	// refundStatus, refundThen and refundAfter are what a fault decides about
	// the next refund: its status, and which one follows when.
	refundStatus, refundThen string
	refundAfter              time.Duration
	// refused is the error with which a fault ends the execution, or nil. If
	// refusedIntent is set, it is returned when the payment intent is about to
	// be confirmed, and shows the payment intent.
	refused       *apiError
	refusedIntent bool
	account       string // that the API key belongs to
	change        change
}

// execute runs the route. An error is an *apiError. The changes count even with
// an error that is the outcome of an execution, such as a declined card.
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

// created returns the value of the field created of a new object.
func (t *tx) created() int64 { return t.now.Unix() }

// charge returns a charge, which may be one that this execution made, or nil.
func (t *tx) charge(id string) *charge {
	for _, c := range t.change.Charges {
		if c.ID == id {
			return c
		}
	}
	return t.state.charges.get(id)
}

// method returns a payment method, which may be one that this execution made,
// or nil.
func (t *tx) method(id string) *paymentMethod {
	for _, m := range t.change.Methods {
		if m.ID == id {
			return m
		}
	}
	return t.state.methods.get(id)
}

// customer checks a parameter that names a customer, and returns it. "" is
// fine. If there is no such customer, the form keeps the error.
func (t *tx) customer(id string) string {
	if c := t.state.customers.get(id); id != "" && (c == nil || c.Deleted) {
		t.form.reject(noSuch("customer", id, "customer"))
	}
	return id
}

// newTx begins an execution now. The caller holds the lock.
func (s *Server) newTx() *tx {
	return &tx{state: s.state, now: s.now(), settleAfter: s.settleAfter}
}
