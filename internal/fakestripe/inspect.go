package fakestripe

import (
	"maps"
	"time"
)

// PaymentIntent is a payment intent and its latest charge, for checks.
type PaymentIntent struct {
	ID       string
	Amount   int64 // in the currency's smallest unit
	Currency string
	Customer string // "" if there is none
	Status   string // Stripe's word, such as "succeeded"
	ChargeID string // of the last attempt to pay; "" if there was none
	// Refunded is how much of the charge was refunded.
	Refunded int64
	Disputed bool
	Metadata map[string]string
	Created  time.Time // by the fake's clock, to the second
}

// PaymentIntents returns all payment intents, oldest first.
func (s *Server) PaymentIntents() []PaymentIntent {
	var all []PaymentIntent
	s.view(func(st *state) {
		for pi := range st.intents.all() {
			seen := PaymentIntent{
				ID: pi.ID, Amount: pi.Amount, Currency: pi.Currency, Customer: pi.Customer.id, Status: pi.Status,
				ChargeID: pi.LatestCharge.id, Metadata: maps.Clone(pi.Metadata), Created: time.Unix(pi.Created, 0).UTC(),
			}
			if ch := st.charges.get(pi.LatestCharge.id); ch != nil {
				seen.Refunded, seen.Disputed = ch.AmountRefunded, ch.Disputed
			}
			all = append(all, seen)
		}
	})
	return all
}

// Refund is a refund, for checks.
type Refund struct {
	ID       string
	Intent   string // the payment intent that is refunded
	Amount   int64  // in the currency's smallest unit
	Status   string // Stripe's word, such as "succeeded"
	Metadata map[string]string
}

// Refunds returns all refunds, oldest first.
func (s *Server) Refunds() []Refund {
	var all []Refund
	s.view(func(st *state) {
		for r := range st.refunds.all() {
			all = append(all, Refund{
				ID: r.ID, Intent: r.PaymentIntent.id, Amount: r.Amount, Status: r.Status, Metadata: maps.Clone(r.Metadata),
			})
		}
	})
	return all
}

// Charges returns how many charges succeeded for each metadata[ride_id],
// refunded ones included. Charges without a ride count under "".
func (s *Server) Charges() map[string]int {
	counts := map[string]int{}
	for ride, t := range s.tallies() {
		if t.Succeeded > 0 {
			counts[ride] = t.Succeeded
		}
	}
	return counts
}

// tally counts the charges of one ride. A refunded charge counts as succeeded
// too.
type tally struct {
	Succeeded int `json:"succeeded"`
	Refunded  int `json:"refunded"` // in full
	Disputed  int `json:"disputed"`
	Pending   int `json:"pending"`
	Failed    int `json:"failed"`
}

// count counts a charge.
func (t *tally) count(ch *charge) {
	switch ch.Status {
	case succeeded:
		t.Succeeded++
	case pending:
		t.Pending++
	default:
		t.Failed++
	}
	if ch.Refunded {
		t.Refunded++
	}
	if ch.Disputed {
		t.Disputed++
	}
}

// tallies counts the charges of each ride.
func (s *Server) tallies() map[string]*tally {
	counts := map[string]*tally{}
	s.view(func(st *state) {
		for ch := range st.charges.all() {
			ride := ch.Metadata["ride_id"]
			if counts[ride] == nil {
				counts[ride] = &tally{}
			}
			counts[ride].count(ch)
		}
	})
	return counts
}

// view does what is due, and passes the state to look. It also works when the
// server is closed, because tests read the results at their end.
func (s *Server) view(look func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		_ = s.catchUp() // its error stops the server, so later calls return it
	}
	look(s.state)
}
