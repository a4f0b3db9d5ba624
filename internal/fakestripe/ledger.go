package fakestripe

import (
	"context"
	"slices"
	"sort"
	"time"
)

// maxReads is how many GETs the ledger keeps, so that a client that polls for
// days does not fill the memory.
const maxReads = 10_000

// Send is one request as it arrived, whatever became of it.
type Send struct {
	// Seq is the number of the request. A reset does not start again from 1.
	Seq    int       `json:"seq"`
	At     time.Time `json:"at"` // of arrival, by the fake's clock
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Key    string    `json:"key"` // the Idempotency-Key, or ""
	Query  string    `json:"query,omitempty"`
	Body   string    `json:"body"` // the form, byte for byte
	// Params has the fields of the query and the body by their names, as sent.
	// If a name was sent several times, it has the last value.
	Params map[string]string `json:"params"`
	// Status is the status of the answer, even if a fault kept the answer from
	// leaving. It is 0 while the request is in flight, and stays 0 if there was
	// no answer because the connection or the fake ended first.
	Status    int    `json:"status"`
	Replayed  bool   `json:"replayed"` // the answer was saved under the key
	Fault     Kind   `json:"fault"`    // that hit the request, or ""
	RequestID string `json:"request_id"`
	// InFlight is set until the request has ended.
	InFlight bool `json:"in_flight"`
	// Incomplete is set if the client went away before it had sent the whole
	// body. Such a request is never executed.
	Incomplete bool `json:"incomplete"`
}

// answered is how the request with the number Seq ended.
type answered struct {
	Seq      int  `json:"seq"`
	Status   int  `json:"status"`
	Replayed bool `json:"replayed,omitempty"`
}

// update notes the end in the send with its number. After a reset there may be
// none.
func (a *answered) update(sends []Send) {
	i := sort.Search(len(sends), func(i int) bool { return sends[i].Seq >= a.Seq })
	if i < len(sends) && sends[i].Seq == a.Seq {
		sends[i].Status, sends[i].Replayed, sends[i].InFlight = a.Status, a.Replayed, false
	}
}

// withParams returns the send with its Params, which the state leaves out to
// save memory.
func (s Send) withParams() Send {
	s.Params = map[string]string{}
	for _, part := range []string{s.Query, s.Body} {
		fields, _ := decode(part)
		for _, f := range fields {
			s.Params[f.name] = f.value
		}
	}
	return s
}

// Ledger returns every write (POST) since the last reset, in the order of
// arrival, even if it was never answered.
func (s *Server) Ledger() []Send { return s.sends(false) }

// sends returns the writes, and with reads also the reads, in the order of
// arrival.
func (s *Server) sends(reads bool) []Send {
	s.mu.Lock()
	all := slices.Clone(s.state.sends)
	if reads {
		all = append(all, s.reads...)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b Send) int { return a.Seq - b.Seq })
	for i := range all {
		all[i] = all[i].withParams()
	}
	return all
}

// WaitSends returns when at least n requests, reads included, match. A nil
// match matches every request. It checks again whenever a request arrives or
// ends. It returns the error of ctx if ctx ends first, and an error if the
// server is closed.
func (s *Server) WaitSends(ctx context.Context, n int, match func(Send) bool) error {
	for {
		changed := s.nextChange()
		found := 0
		for _, send := range s.sends(true) {
			if match == nil || match(send) {
				found++
			}
		}
		if found >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return errClosed
		}
	}
}

// nextChange returns a channel that is closed when the ledger changes next.
func (s *Server) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// announce closes the channel that nextChange returned. The caller holds the
// lock.
func (s *Server) announce() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
