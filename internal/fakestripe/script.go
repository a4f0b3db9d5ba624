package fakestripe

import (
	"fmt"
	"time"
)

// scriptedFault is a fault, and how many requests it has met.
type scriptedFault struct {
	Fault

	skipped int
	hits    int
}

// spent reports whether the fault will hit no more requests.
func (f *scriptedFault) spent() bool { return f.Times >= 0 && f.hits >= max(f.Times, 1) }

// hit counts a request if the fault matches it, and reports whether the fault
// hits it.
func (f *scriptedFault) hit(s *Send) bool {
	if f.spent() || !f.Match.holds(s) {
		return false
	}
	if f.skipped < f.Skip {
		f.skipped++
		return false
	}
	f.hits++
	return true
}

// plan is what the faults do to one request.
type plan struct {
	Fault // the one that is not a mere delay; its Kind is "" if there is none

	delayed       bool
	before, after pause
}

// pause is how long a request waits, unless the faults are cleared meanwhile,
// and the gates that it waits for.
type pause struct {
	latency time.Duration
	cleared <-chan struct{}
	gates   []<-chan struct{}
}

// gate adds a gate, unless it is nil.
func (p *pause) gate(c <-chan struct{}) {
	if c != nil {
		p.gates = append(p.gates, c)
	}
}

// name returns the kind that the ledger shows.
func (p *plan) name() Kind {
	if p.Kind == "" && p.delayed {
		return Delayed
	}
	return p.Kind
}

// Script adds faults after those that are there. It panics if a fault makes no
// sense, such as one of an unknown kind: that is a mistake in a test.
func (s *Server) Script(faults ...Fault) {
	for i := range faults {
		if err := faults[i].check(); err != nil {
			panic(fmt.Sprintf("fakestripe: fault %d: %v", i, err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &scriptedFault{Fault: f})
	}
}

// clearFaults removes all faults. Requests that they have already hit go on as
// scripted, but without further delay: Stripe works again, and nothing is slow.
func (s *Server) clearFaults() {
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
		if !f.hit(sent) {
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

// delay adds the latency and the gates of a fault to a plan.
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

// wait returns when a pause is over. A client that goes away does not shorten
// it, because Stripe would go on as well. The error is errClosed.
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

// sleep waits for d. It returns early when the faults are cleared, and with
// errClosed when the server is closed.
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
