package fakestripe

import (
	"context"
	"slices"
	"sort"
	"time"
)

// maxReads is how many GETs the ledger remembers. A client that polls for days
// would else fill the memory.
const maxReads = 10_000

// Send is one request as it came over the wire, whatever became of it.
type Send struct {
	// Seq counts the requests, and goes on counting after a reset.
	Seq    int       `json:"seq"`
	At     time.Time `json:"at"` // of arrival, by the fake's clock
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Key    string    `json:"key"` // the Idempotency-Key, or ""
	Query  string    `json:"query,omitempty"`
	Body   string    `json:"body"` // the form, byte for byte
	// Params are the fields of query and body by their names as sent. Of a name
	// that was sent several times it has the last value.
	Params map[string]string `json:"params"`
	// Status is what was decided, also if a fault then kept the answer from
	// leaving. It is 0 while the request runs, and stays so if nothing was
	// decided because the connection or the fake went away.
	Status    int    `json:"status"`
	Replayed  bool   `json:"replayed"`
	Fault     Kind   `json:"fault"` // what was scripted, or ""
	RequestID string `json:"request_id"`
	// InFlight tells that the request is still running.
	InFlight bool `json:"in_flight"`
	// Incomplete tells that the client went away before it had sent all of the
	// body; such a request never executes.
	Incomplete bool `json:"incomplete"`
}

// answered is how a send ended.
type answered struct {
	Seq      int  `json:"seq"`
	Status   int  `json:"status"`
	Replayed bool `json:"replayed,omitempty"`
}

// update writes the end into its send, if a reset has left it there.
func (a *answered) update(sends []Send) {
	i := sort.Search(len(sends), func(i int) bool { return sends[i].Seq >= a.Seq })
	if i < len(sends) && sends[i].Seq == a.Seq {
		sends[i].Status, sends[i].Replayed, sends[i].InFlight = a.Status, a.Replayed, false
	}
}

// withParams returns the send with its fields decoded, which the state leaves
// out to spare memory.
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

// Ledger returns every write (POST) since the last reset in the order of
// arrival, those included that were never answered. It is safe for concurrent
// use, as are all methods of Server.
func (s *Server) Ledger() []Send { return s.sends(false) }

// sends returns the writes, and if wanted the reads too, in the order of
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

// WaitSends returns when at least n requests, reads included, match; a nil
// match means every request. It looks again whenever a request arrives or ends.
// The error is the context's, or says that the server was closed.
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

// nextChange returns a channel that is closed at the ledger's next change.
func (s *Server) nextChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// announce wakes those who wait for the ledger to change. The caller holds the
// lock.
func (s *Server) announce() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
