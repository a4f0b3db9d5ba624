package fakestripe

import (
	"fmt"
	"time"
)

// Now returns the time by the fake's clock: the real time and what Advance has
// added to it.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// now is Now for those who hold the lock.
func (s *Server) now() time.Time { return time.Now().UTC().Add(s.state.offset) }

// Advance moves the fake's clock forward and does what comes due on the way:
// keys are forgotten, processing payments end, effects roll forward. The move
// survives a restart. It panics if d is negative: time does not go back. The
// error says that the server is closed or cannot write its journal.
func (s *Server) Advance(d time.Duration) error {
	if d < 0 {
		panic("fakestripe: Advance needs a duration that is not negative")
	}
	return s.update(func() error {
		if err := s.commit(&change{Offset: new(s.state.offset + d)}); err != nil {
			return err
		}
		return s.catchUp()
	})
}

// catchUp does what is due by now, in the order of its times. The caller holds
// the lock.
func (s *Server) catchUp() error {
	now := s.now()
	for {
		e, ok := s.state.due(now)
		if !ok {
			break
		}
		if err := s.happen(e); err != nil {
			return err
		}
	}
	s.state.forget(now)
	return nil
}

// happen makes an event at its own time. What cannot happen any more, such as a
// refund of what was refunded meanwhile, is dropped: Stripe owes nobody that a
// 500 rolls forward.
func (s *Server) happen(e event) error {
	t := s.newTx()
	t.now = time.Unix(0, e.Due).UTC()
	if err := s.runEvent(t, e); err != nil && !executed(err) {
		t.change = change{}
	}
	t.change.Done = e.ID
	return s.commit(&t.change)
}

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

// newTx begins an execution now. The caller holds the lock.
func (s *Server) newTx() *tx {
	return &tx{state: s.state, now: s.now(), settleAfter: s.settleAfter}
}

// Settle makes a processing payment intent succeed. The error says that there
// is no such intent, or that it is not processing.
func (s *Server) Settle(intent string) error {
	return s.step(func(t *tx) error { return t.settle(intent, "") })
}

// Decline makes a processing payment intent fail with a decline code such as
// insufficient_funds. The errors are those of Settle.
func (s *Server) Decline(intent, declineCode string) error {
	return s.step(func(t *tx) error { return t.settle(intent, declineCode) })
}

// Dispute marks the charge of a succeeded payment intent as disputed. The error
// says that there is no such intent, or that it has not succeeded.
func (s *Server) Dispute(intent string) error {
	return s.step(func(t *tx) error { return t.dispute(intent) })
}

// DeleteCustomer deletes a customer. The error says that there is none.
func (s *Server) DeleteCustomer(customer string) error {
	return s.step(func(t *tx) error { return t.deleteCustomer(customer) })
}

// step makes something happen at Stripe that nobody asked for over the API.
func (s *Server) step(f func(*tx) error) error {
	return s.update(func() error {
		t := s.newTx()
		if err := f(t); err != nil {
			return err
		}
		return s.commit(&t.change)
	})
}
