package fakestripe

import "time"

// now returns the time by the fake's clock: the real time, and what Advance has
// added to it. The caller holds the lock.
func (s *Server) now() time.Time { return time.Now().UTC().Add(s.state.offset) }

// Advance moves the fake's clock forward by d and does what becomes due: keys
// are forgotten, processing payments end, and effects that were left for later
// happen. The move survives a restart. Advance panics if d is negative. It
// returns an error if the server is closed or cannot write its journal.
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

// catchUp does what is due by now, in the order of the times at which it is
// due. The caller holds the lock.
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
