package fakestripe

import (
	"fmt"
	"time"
)

// happen lets an event happen, at the time at which it is due. An event that
// has become impossible, such as a refund of what was refunded meanwhile, is
// dropped: Stripe does not promise that the effect of a 500 follows.
func (s *Server) happen(e event) error {
	t := s.newTx()
	t.now = time.Unix(0, e.Due).UTC()
	if err := s.runEvent(t, e); err != nil && !executed(err) {
		t.change = change{}
	}
	t.change.Done = e.ID
	return s.commit(&t.change)
}

// runEvent executes an event.
func (s *Server) runEvent(t *tx, e event) error {
	if e.Settle != "" {
		return t.settle(e.Settle, "")
	}
	fields, err := decode(e.Form)
	if err != nil {
		return err
	}
	route, id := find(s.routes, "POST", e.Path)
	if route == nil {
		return fmt.Errorf("no route for %s", e.Path)
	}
	t.id = id
	_, failed := t.execute(route, fields)
	return failed
}

// Settle makes a processing payment intent succeed. It returns an error if
// there is no such intent, or if it is not processing.
func (s *Server) Settle(intent string) error {
	return s.step(func(t *tx) error { return t.settle(intent, "") })
}

// Decline makes a processing payment intent fail with a decline code, such as
// insufficient_funds. Its errors are those of Settle.
func (s *Server) Decline(intent, declineCode string) error {
	return s.step(func(t *tx) error { return t.settle(intent, declineCode) })
}

// Dispute marks the charge of a succeeded payment intent as disputed. It
// returns an error if there is no such intent, or if it has not succeeded.
func (s *Server) Dispute(intent string) error {
	return s.step(func(t *tx) error { return t.dispute(intent) })
}

// DeleteCustomer deletes a customer. It returns an error if there is no such
// customer.
func (s *Server) DeleteCustomer(customer string) error {
	return s.step(func(t *tx) error { return t.deleteCustomer(customer) })
}

// step commits a change that no request over the API caused.
func (s *Server) step(f func(*tx) error) error {
	return s.update(func() error {
		t := s.newTx()
		if err := f(t); err != nil {
			return err
		}
		return s.commit(&t.change)
	})
}
