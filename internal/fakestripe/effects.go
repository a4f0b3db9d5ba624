package fakestripe

import (
	"fmt"
	"time"
)

// happen lets an effect happen, at the time at which it is due. One that has
// become impossible, such as a refund of what was refunded meanwhile, is
// dropped: Stripe does not promise that the effect of a 500 follows.
func (s *Server) happen(e effect) error {
	t := s.newTx()
	t.now = time.Unix(0, e.Due).UTC()
	if err := s.bringAbout(t, e); err != nil && !executed(err) {
		t.change = change{}
	}
	t.change.Done = e.ID
	return s.commit(&t.change)
}

// bringAbout executes an effect.
func (s *Server) bringAbout(t *tx, e effect) error {
	switch {
	case e.Settle != "":
		return t.settle(e.Settle, "")
	case e.Refund != "":
		return t.changeRefund(e.Refund, e.Then)
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

// Dispute lets the cardholder dispute the charge of a succeeded payment intent,
// or moves the dispute that there is on. The status is one of Stripe's, such as
// needs_response, warning_needs_response (an inquiry), won or lost; "" means
// needs_response. It returns an error if there is no such intent, or if it has
// not succeeded.
func (s *Server) Dispute(intent, status string) error {
	return s.step(func(t *tx) error { return t.dispute(intent, status) })
}

// DashboardRefund refunds a payment intent as a person at the dashboard does:
// without a request, an idempotency key and metadata. An amount of 0 means all
// that is left. It returns the id of the refund.
func (s *Server) DashboardRefund(intent string, amount int64) (string, error) {
	var id string
	err := s.step(func(t *tx) error {
		t.form = &form{hash: map[string]string{}}
		r, err := t.refund(intent, "", amount)
		if err == nil {
			id = r.ID
		}
		return err
	})
	return id, err
}

// ChangeRefund gives a refund another status: pending, requires_action,
// succeeded, failed or canceled. It returns an error if there is no such
// refund, or if that has failed or was canceled, which is final.
func (s *Server) ChangeRefund(refund, status string) error {
	return s.step(func(t *tx) error { return t.changeRefund(refund, status) })
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
