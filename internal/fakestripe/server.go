package fakestripe

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options says how a fake is made. The zero value is a fake in memory that logs
// nothing.
type Options struct {
	// Dir is where the journal lives; it is made if need be. Empty means that
	// nothing survives the Server. Two servers cannot share a directory.
	Dir string
	// Logger gets a line per write request; nil logs nothing.
	Logger *slog.Logger
	// Seed makes the scripted latencies repeatable.
	Seed uint64
	// SettleAfter is when a payment with pm_fake_processing succeeds, by the
	// fake's clock. 0 leaves that to [Server.Settle].
	SettleAfter time.Duration
}

// Server is a fake Stripe: an [http.Handler] that serves Stripe's routes under
// /v1 and its own controls under /_fake. It starts no goroutine. All methods
// are safe for concurrent use.
type Server struct {
	log         *slog.Logger
	settleAfter time.Duration
	routes      []route
	controls    http.Handler
	journal     *journal // nil without a directory
	closing     chan struct{}

	mu      sync.Mutex
	state   *state
	running map[string]*call // by idempotency key: what executes now
	faults  []*armed
	cleared chan struct{} // closed when the faults are cleared
	random  *rand.Rand
	reads   []Send
	lastSeq int
	changed chan struct{} // see nextChange
	// effects is the journal's position after the last change that an answer
	// may show.
	effects int64
	// dead is why nothing executes any more: the server was closed, or its
	// journal cannot be written, so that nothing it said would be true.
	dead error
}

// Open makes a fake Stripe and, with a directory, reads its journal. The error
// says so if another process uses the directory, or if the journal is damaged
// anywhere but at its torn end.
func Open(o Options) (*Server, error) {
	s := &Server{
		log: o.Logger, settleAfter: o.SettleAfter, routes: routes(), closing: make(chan struct{}),
		cleared: make(chan struct{}), state: newState(), running: map[string]*call{},
		random: rand.New(rand.NewPCG(o.Seed, o.Seed)), //nolint:gosec // latencies are to be repeatable, not secret
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.controls = s.controlRoutes()
	if o.Dir != "" {
		journal, err := openJournal(o.Dir, s.replay)
		if err != nil {
			return nil, err
		}
		s.journal = journal
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin makes the state of a first start, or that of a restart.
func (s *Server) begin() error {
	for i := range s.state.sends {
		s.state.sends[i].InFlight = false // it died with the process
		s.lastSeq = s.state.sends[i].Seq
	}
	if len(s.state.customers.rows) > 0 {
		return nil
	}
	return s.update(func() error { return s.commit(seeds(s.now().Unix())) })
}

// replay applies a line of the journal.
func (s *Server) replay(line []byte) error {
	var c change
	if err := json.Unmarshal(line, &c); err != nil {
		return err
	}
	s.state.apply(&c)
	return nil
}

// commit makes a change durable and then visible. The caller holds the lock,
// and has to sync before it tells anybody.
func (s *Server) commit(c *change) error {
	if s.dead != nil {
		return s.dead
	}
	if s.journal != nil {
		if err := s.write(c); err != nil {
			s.dead = err
			return err
		}
	}
	s.state.apply(c)
	if c.Arrival != nil || c.Answered != nil {
		s.announce()
	}
	return nil
}

func (s *Server) write(c *change) error {
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	position, err := s.journal.append(line)
	if err != nil {
		return err
	}
	// That a request has arrived need not be on disk before it is answered; an
	// answer that waited for every other arrival would sync for nothing.
	if c.Arrival == nil {
		s.effects = position
	}
	return nil
}

// update runs f under the lock, with everything done that is due, and returns
// when all that f may have seen or changed is on disk. Nothing may leave the
// server before.
func (s *Server) update(f func() error) error {
	position, err := s.underLock(f)
	if err != nil || s.journal == nil {
		return err
	}
	if err := s.journal.sync(position); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dead = err
		return err
	}
	return nil
}

func (s *Server) underLock(f func() error) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	if err := s.catchUp(); err != nil {
		return 0, err
	}
	err := f()
	return s.effects, err
}

// ServeHTTP serves Stripe's API and the controls. A request that must not be
// answered ends with [http.ErrAbortHandler], on which net/http closes the
// connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_fake" || strings.HasPrefix(r.URL.Path, "/_fake/") {
		s.controls.ServeHTTP(w, r)
		return
	}
	s.serveStripe(w, r)
}

// Close ends every request that waits, without an answer, and gives up the
// directory. After it, reading what happened (Ledger, Charges …) still works;
// everything else does nothing. Close the fake before the HTTP server around
// it, which waits for its requests.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.dead, errClosed) {
		return nil
	}
	s.dead = errClosed
	close(s.closing)
	if s.journal == nil {
		return nil
	}
	return s.journal.close()
}

// Reset forgets everything but the seeds: objects, keys, ledger, faults and the
// clock's offset.
func (s *Server) Reset() error {
	return s.update(func() error {
		if s.journal != nil {
			if err := s.journal.empty(); err != nil {
				s.dead = err
				return err
			}
		}
		s.state, s.reads, s.faults = newState(), nil, nil
		return s.commit(seeds(s.now().Unix()))
	})
}
