package fakestripe

import (
	"iter"
	"slices"
	"time"
)

// keyLifetime is how long a key is remembered. Stripe says that keys can be
// removed "after they're at least 24 hours old"; the fake does it at once then.
const keyLifetime = 24 * time.Hour

// table holds the objects of one kind in the order of their creation.
type table[T any] struct {
	rows []*T
	at   map[string]int
}

// put adds an object, or replaces the one with this id.
func (t *table[T]) put(id string, row *T) {
	if i, known := t.at[id]; known {
		t.rows[i] = row
		return
	}
	if t.at == nil {
		t.at = map[string]int{}
	}
	t.at[id] = len(t.rows)
	t.rows = append(t.rows, row)
}

// get returns the object with this id, or nil.
func (t *table[T]) get(id string) *T {
	i, known := t.at[id]
	if !known {
		return nil
	}
	return t.rows[i]
}

// all returns the objects, oldest first.
func (t *table[T]) all() iter.Seq[*T] { return slices.Values(t.rows) }

// saved is the answer that is saved under a key.
type saved struct {
	Key       string `json:"key"`
	Path      string `json:"path"`
	Params    string `json:"params"` // the hash of the canonical parameters
	At        int64  `json:"at"`     // Unix nanoseconds by the fake's clock
	Status    int    `json:"status"`
	Body      raw    `json:"body"`
	RequestID string `json:"request_id"`
}

// raw is JSON that json.Marshal has made, so that encoding it again changes no
// byte of it.
type raw []byte

// MarshalJSON returns the bytes as they are.
func (r raw) MarshalJSON() ([]byte, error) { return r, nil }

// UnmarshalJSON keeps a copy of the bytes as they are.
func (r *raw) UnmarshalJSON(b []byte) error {
	*r = slices.Clone(b)
	return nil
}

// effect is something that Stripe does later by itself: it settles the payment
// intent in Settle, gives the refund in Refund the status Then, or executes the
// request with Path and Form, which was answered with a 500.
type effect struct {
	ID     string `json:"id"`
	Due    int64  `json:"due"`              // Unix nanoseconds by the fake's clock
	Settle string `json:"settle,omitempty"` // the id of a payment intent
	Refund string `json:"refund,omitempty"` // the id of a refund
	Then   string `json:"then,omitempty"`
	Path   string `json:"path,omitempty"`
	Form   string `json:"form,omitempty"`
}

// change is one line of the journal. It has everything that one step changed,
// so that a step is on disk as a whole or not at all.
type change struct {
	Offset    *time.Duration   `json:"offset,omitempty"`
	Customers []*customer      `json:"customers,omitempty"`
	Methods   []*paymentMethod `json:"methods,omitempty"`
	Intents   []*paymentIntent `json:"intents,omitempty"`
	Charges   []*charge        `json:"charges,omitempty"`
	Refunds   []*refund        `json:"refunds,omitempty"`
	Disputes  []*dispute       `json:"disputes,omitempty"`
	// Notices are new. Deliveries are new, or have failed once more.
	Notices    []*notice  `json:"notices,omitempty"`
	Deliveries []delivery `json:"deliveries,omitempty"`
	Delivered  string     `json:"delivered,omitempty"` // the id of the delivery that is over
	Saved      *saved     `json:"saved,omitempty"`
	Arrival    *Send      `json:"arrival,omitempty"`
	Answered   *answered  `json:"answered,omitempty"`
	Later      []effect   `json:"later,omitempty"`
	Done       string     `json:"done,omitempty"`
}

// state is everything that survives a restart.
type state struct {
	offset    time.Duration // of the fake's clock to the real one
	customers table[customer]
	methods   table[paymentMethod]
	intents   table[paymentIntent]
	charges   table[charge]
	refunds   table[refund]
	disputes  table[dispute]
	notices   table[notice]
	// deliveries are those that are not over.
	deliveries []delivery
	saved      map[string]*saved
	oldest     []*saved // in the order of saving
	effects    []effect
	sends      []Send
}

// newState returns an empty state.
func newState() *state { return &state{saved: map[string]*saved{}} }

// apply makes a change. Nothing else changes the state, neither when a request
// is executed nor when the journal is read.
func (s *state) apply(c *change) {
	if c.Offset != nil {
		s.offset = *c.Offset
	}
	for _, row := range c.Customers {
		s.customers.put(row.ID, row)
	}
	for _, row := range c.Methods {
		s.methods.put(row.ID, row)
	}
	for _, row := range c.Intents {
		s.intents.put(row.ID, row)
	}
	for _, row := range c.Charges {
		s.charges.put(row.ID, row)
	}
	for _, row := range c.Refunds {
		s.refunds.put(row.ID, row)
	}
	for _, row := range c.Disputes {
		s.disputes.put(row.ID, row)
	}
	s.applyEvents(c)
	s.applyLedger(c)
	s.effects = append(s.effects, c.Later...)
	s.effects = slices.DeleteFunc(s.effects, func(e effect) bool { return e.ID == c.Done })
}

// applyEvents makes the changes of the events that are sent to webhook
// endpoints.
func (s *state) applyEvents(c *change) {
	for _, row := range c.Notices {
		s.notices.put(row.ID, row)
	}
	over := func(d delivery) bool {
		return d.ID == c.Delivered || slices.ContainsFunc(c.Deliveries, func(next delivery) bool { return next.ID == d.ID })
	}
	if c.Delivered != "" || len(c.Deliveries) > 0 {
		s.deliveries = append(slices.DeleteFunc(s.deliveries, over), c.Deliveries...)
	}
}

// applyLedger makes the changes of the saved answers and of the ledger.
func (s *state) applyLedger(c *change) {
	if c.Saved != nil {
		s.saved[c.Saved.Key] = c.Saved
		s.oldest = append(s.oldest, c.Saved)
	}
	if c.Arrival != nil {
		s.sends = append(s.sends, *c.Arrival)
	}
	if c.Answered != nil {
		c.Answered.update(s.sends)
	}
}

// forget removes the keys that are too old at the time now.
func (s *state) forget(now time.Time) {
	for len(s.oldest) > 0 && now.Sub(time.Unix(0, s.oldest[0].At)) >= keyLifetime {
		first := s.oldest[0]
		s.oldest = s.oldest[1:]
		if s.saved[first.Key] == first {
			delete(s.saved, first.Key)
		}
	}
}

// due returns the earliest effect that is due at the time now, and reports
// whether there is one.
func (s *state) due(now time.Time) (effect, bool) {
	var first effect
	for _, e := range s.effects {
		if e.Due <= now.UnixNano() && (first.ID == "" || e.Due < first.Due) {
			first = e
		}
	}
	return first, first.ID != ""
}
