package phases

import (
	"strconv"
	"time"
)

// Company is how many transactions, or look-ups, wait for no other.
const Company = company

// GatherTimeout is how long look-ups, or transactions, that travel together may
// take.
const GatherTimeout = gatherTimeout

// MaxDelay is how long a request may have to wait at the door. AlwaysIn is how
// many are let in at any pace, and MostIn how many at most.
const (
	MaxDelay = maxDelay
	AlwaysIn = alwaysIn
	MostIn   = mostIn
)

// NewDoor returns a door: what lets a request in, and returns how it gets
// through.
func NewDoor() (enter func() (through func(), ok bool)) {
	d := newDoor()
	return func() (func(), bool) {
		v, ok := d.enter()
		return v.through, ok
	}
}

// PlacesTaken reports whether nobody else can read or claim at once.
func (e *Engine) PlacesTaken() bool { return len(e.places) == cap(e.places) }

// GatheringOrder returns the order in which transactions are gathered that come
// one after the other, some for a key that they hold.
func GatheringOrder(held ...bool) (order []int) {
	q, place := &queue{}, map[*member]int{}
	for i, held := range held {
		m := &member{tx: &Tx{attempt: &attempt{key: Key{Key: strconv.Itoa(i)}}}}
		if !held {
			m.tx.attempt.entry = entryInsert
		}
		place[m] = i
		q.add(m)
	}
	for _, m := range q.take() {
		order = append(order, place[m])
	}
	return order
}

// Gathering returns how many transactions wait for company, and says when a
// group is late from now on.
func (e *Engine) Gathering(patience time.Duration) (waiting func() int) {
	g := &e.gathering
	g.mu.Lock()
	defer g.mu.Unlock()
	g.patience = patience
	return func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		n := 0
		for _, q := range g.queues {
			n += len(q.waiting)
		}
		return n
	}
}

// LookUpsWaiting returns how many look-ups wait for company.
func (e *Engine) LookUpsWaiting() int {
	e.keys.mu.Lock()
	defer e.keys.mu.Unlock()
	return len(e.keys.waiting)
}

// AgeLeases lets the leases of all calls that are on their way be older by an
// age, as this process sees them.
func (e *Engine) AgeLeases(age time.Duration) {
	r := &e.renewals
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, call := range r.calls {
		call.clock.lease -= age
	}
}

// LookAtCalls looks at the calls that are on their way, as the timer does.
func (e *Engine) LookAtCalls() { e.renewals.look() }

// RenewAll renews the leases of all calls that are on their way, as if all were
// due at once. It returns how many there are.
func (e *Engine) RenewAll() int {
	r := &e.renewals
	r.mu.Lock()
	var calls []heldCall
	for _, call := range r.calls {
		calls = append(calls, *call)
	}
	r.mu.Unlock()
	r.renew(calls)
	return len(calls)
}
