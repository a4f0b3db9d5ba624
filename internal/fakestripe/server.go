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

// Options configures a fake. The zero value is a fake in memory that logs
// nothing.
type Options struct {
	// Dir is the directory of the journal. It is made if it does not exist. If
	// it is empty, nothing outlives the Server. Two servers cannot share one.
	Dir string
	// Logger gets a line for each write request; nil logs nothing.
	Logger *slog.Logger
	// EventsTo are the URLs of the webhook endpoints that events are sent to,
	// signed with WebhookSecret (whsec_…). Without a secret there are no
	// events.
	EventsTo      []string
	WebhookSecret string
	// SettleAfter is how long a payment with pm_fake_processing takes to
	// succeed, by the fake's clock. 0 leaves that to [Server.Settle].
	SettleAfter time.Duration
	// Limits are how many requests a second are taken; see [Server.Limit].
	Limits Limits
}

// Server is a fake Stripe: an [http.Handler] that serves Stripe's routes under
// /v1, and its own controls under /_fake. If it has webhook endpoints, it sends
// events to them until it is closed; otherwise it starts no goroutine. All its
// methods are safe for concurrent use.
type Server struct {
	log         *slog.Logger
	settleAfter time.Duration
	routes      []route
	controls    http.Handler
	journal     *journal // nil without a directory
	closing     chan struct{}
	endpoints   []string // the URLs of the webhook endpoints
	secret      string   // that events are signed with
	courier     *http.Client
	sending     sync.WaitGroup
	wake        chan struct{} // there may be something to send

	mu      sync.Mutex
	state   *state
	running map[string]*call // the calls that are executed now, by idempotency key
	faults  []*scriptedFault
	cleared chan struct{} // closed when the faults are cleared
	random  *rand.Rand
	reads   []Send
	lastSeq int
	changed chan struct{} // see nextChange
	traffic *traffic
	// eventRules say how events are sent, and inDelivery which deliveries are
	// on their way.
	eventRules []EventRule
	inDelivery map[string]bool
	// effects is the position in the journal after the last change that an
	// answer may show.
	effects int64
	// dead is why nothing is executed any more: the server was closed, or its
	// journal cannot be written, so that no answer could be kept.
	dead error
}

// Open returns a fake Stripe. If there is a directory, it reads the journal in
// it. It returns an error if another process uses the directory, or if the
// journal is damaged anywhere but in its last line.
func Open(o Options) (*Server, error) {
	s := &Server{
		log: o.Logger, settleAfter: o.SettleAfter, routes: routes(), closing: make(chan struct{}),
		cleared: make(chan struct{}), state: newState(), running: map[string]*call{},
		endpoints: o.EventsTo, secret: o.WebhookSecret, wake: make(chan struct{}, 1), inDelivery: map[string]bool{},
		courier: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: mostSending}, CheckRedirect: followNone},
		random:  rand.New(rand.NewPCG(0, 0)), //nolint:gosec // latencies must be repeatable, not secret
	}
	if err := o.Limits.check(); err != nil {
		return nil, err
	}
	s.traffic = newTraffic(o.Limits)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if len(s.endpoints) > 0 && s.secret == "" {
		return nil, errors.New("events need a secret that they are signed with")
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
	if len(s.endpoints) > 0 {
		s.sending.Go(s.sendEvents)
	}
	return s, nil
}

// followNone makes a redirect an answer like any other.
func followNone(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// begin completes the state, after a restart or for a first start.
func (s *Server) begin() error {
	for i := range s.state.sends {
		s.state.sends[i].InFlight = false // it ended with the process
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

// commit writes a change to the journal and applies it. The caller holds the
// lock, and must sync the journal before anything shows the change.
func (s *Server) commit(c *change) error {
	if s.dead != nil {
		return s.dead
	}
	if err := s.notify(c); err != nil {
		return err
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
	if len(c.Deliveries) > 0 || c.Offset != nil {
		select {
		case s.wake <- struct{}{}:
		default: // it is about to look
		}
	}
	return nil
}

// write writes a change to the journal.
func (s *Server) write(c *change) error {
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	position, err := s.journal.append(line)
	if err != nil {
		return err
	}
	// No answer shows that another request has arrived. If answers waited until
	// arrivals are on disk, they would wait for nothing.
	if c.Arrival == nil {
		s.effects = position
	}
	return nil
}

// update does what is due, then runs f under the lock, and returns when
// everything that f may have seen or changed is on disk. No answer may leave
// the server before that.
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

// underLock does what is due, and runs f under the lock. It returns the
// position that the journal must be synced to before an answer leaves.
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

// ServeHTTP serves Stripe's API and the controls. For a request that must not
// be answered it panics with [http.ErrAbortHandler], and net/http closes the
// connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_fake" || strings.HasPrefix(r.URL.Path, "/_fake/") {
		s.controls.ServeHTTP(w, r)
		return
	}
	s.serveStripe(w, r)
}

// Close ends every request that waits, without an answer, and releases the
// directory. The methods that read (Ledger, Charges, PaymentIntents) still work
// afterwards; all others return an error. Close the fake before the HTTP server
// around it, which waits for its requests.
func (s *Server) Close() error {
	err := s.close()
	s.sending.Wait()
	s.courier.CloseIdleConnections()
	return err
}

func (s *Server) close() error {
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

// reset removes everything but the seeds: objects, keys, ledger, faults and the
// offset of the clock.
func (s *Server) reset() error {
	return s.update(func() error {
		if s.journal != nil {
			if err := s.journal.empty(); err != nil {
				s.dead = err
				return err
			}
		}
		s.state, s.reads, s.faults, s.eventRules = newState(), nil, nil, nil
		s.traffic = newTraffic(s.traffic.Limits)
		return s.commit(seeds(s.now().Unix()))
	})
}
