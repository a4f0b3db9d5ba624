package fakestripe

import (
	"fmt"
	"time"
)

// armed is a fault that waits for requests.
type armed struct {
	Fault

	skipped int
	hits    int
}

// spent tells whether the fault has hit all that it was to hit.
func (a *armed) spent() bool { return a.Times >= 0 && a.hits >= max(a.Times, 1) }

// takes counts a request that the fault matches, and tells whether it is hit.
func (a *armed) takes(s *Send) bool {
	if a.spent() || !a.Match.holds(s) {
		return false
	}
	if a.skipped < a.Skip {
		a.skipped++
		return false
	}
	a.hits++
	return true
}

// plan is what the faults do to one request.
type plan struct {
	Fault // the one that is more than a delay; its Kind is "" if there is none

	delayed       bool
	before, after pause
}

// pause is time to pass, unless the faults are cleared meanwhile, and gates to
// wait at.
type pause struct {
	latency time.Duration
	cleared <-chan struct{}
	gates   []<-chan struct{}
}

func (p *pause) gate(c <-chan struct{}) {
	if c != nil {
		p.gates = append(p.gates, c)
	}
}

// name returns what the ledger shows.
func (p *plan) name() Kind {
	if p.Kind == "" && p.delayed {
		return Delayed
	}
	return p.Kind
}

// Script adds faults after those that are there. It panics on a fault that
// makes no sense, such as one of an unknown kind: that is a mistake in a test.
// It is safe for concurrent use.
func (s *Server) Script(faults ...Fault) {
	for i := range faults {
		if err := faults[i].check(); err != nil {
			panic(fmt.Sprintf("fakestripe: fault %d: %v", i, err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &armed{Fault: f})
	}
}

// ClearFaults removes all faults. Requests that they have already hit go on as
// scripted, but at once: Stripe is well again, and nothing is slow any more.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	close(s.cleared)
	s.cleared = make(chan struct{})
}

// plan returns what the faults do to a request that arrives now. The caller
// holds the lock.
func (s *Server) plan(sent *Send) plan {
	var p plan
	p.before.cleared, p.after.cleared = s.cleared, s.cleared
	for _, f := range s.faults {
		if !f.takes(sent) {
			continue
		}
		s.delay(&p, &f.Fault)
		if f.Kind != Delayed {
			p.Fault = f.Fault
			break
		}
	}
	return p
}

func (s *Server) delay(p *plan, f *Fault) {
	p.delayed = true
	p.before.gate(f.HoldBefore)
	p.after.gate(f.HoldAfter)
	if f.LatencyAt == "after" {
		p.after.latency += f.Latency.draw(s.random)
		return
	}
	p.before.latency += f.Latency.draw(s.random)
}

// wait lets a pause pass. A client that goes away does not cut it short, as it
// does not stop Stripe.
func (s *Server) wait(p pause) error {
	for _, gate := range p.gates {
		select {
		case <-gate:
		case <-s.closing:
			return errClosed
		}
	}
	return s.sleep(p.latency, p.cleared)
}

// sleep lets time pass. It ends early when the faults are cleared, and with an
// error when the server closes.
func (s *Server) sleep(d time.Duration, cleared <-chan struct{}) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-cleared:
		return nil
	case <-s.closing:
		return errClosed
	}
}
