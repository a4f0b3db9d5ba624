// Package rides is the service: what a ride is, what hailing one does, and how
// clients ask for it over HTTP.
//
// The flow of a request is one list (hail); how it is carried out exactly once
// is internal/phases' affair. Stripe is asked in one file (stripe.go).
package rides

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// Config is what a Service needs.
type Config struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// Engine runs the flows; it knows those of Flows.
	Engine *phases.Engine
	// Stripe is asked for charges.
	Stripe *payments.Stripe
	// MaxFare is the most that one ride may cost, in cents.
	MaxFare int64
	// Logger takes one line for each request. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers rides_http_…. nil means nowhere.
	Metrics prometheus.Registerer
}

// Service answers clients. It is safe for concurrent use.
type Service struct {
	pool       *pgxpool.Pool
	engine     *phases.Engine
	hail       phases.Flow
	live       bool
	maxFare    int64
	log        *slog.Logger
	meters     *httpMeters
	principals *expirable.LRU[[32]byte, principal]
	draining   atomic.Bool
}

// Flows are the flows of this service, as an engine must know them.
func Flows(pay *payments.Stripe) []phases.Flow { return []phases.Flow{hail(pay)} }

// NewService returns the service.
func NewService(config Config) *Service {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Service{
		pool:       config.Pool,
		engine:     config.Engine,
		hail:       hail(config.Stripe),
		live:       config.Stripe.Live(),
		maxFare:    config.MaxFare,
		log:        config.Logger,
		meters:     newHTTPMeters(config.Metrics),
		principals: expirable.NewLRU[[32]byte, principal](principalsKept, nil, principalTTL),
	}
}

// Drain makes the service refuse every request that would claim a key, and
// Draining true.
func (s *Service) Drain() {
	s.draining.Store(true)
	s.engine.Drain()
}

// Draining tells whether Drain was called.
func (s *Service) Draining() bool { return s.draining.Load() }

// Handler returns the public API.
func (s *Service) Handler() http.Handler {
	router := chi.NewRouter()
	router.NotFound(s.handle(func(http.ResponseWriter, *http.Request) error {
		return web.NewProblemError(web.CodeNotFound, nil)
	}))
	router.MethodNotAllowed(s.handle(func(w http.ResponseWriter, r *http.Request) error {
		taken := allowed(router, cmp.Or(r.URL.RawPath, r.URL.Path))
		if taken == "" { // chi comes here with a method that it doesn't know, whatever the path.
			return web.NewProblemError(web.CodeNotFound, nil)
		}
		w.Header().Set("Allow", taken)
		return web.NewProblemError(web.CodeMethodNotAllowed, nil)
	}))
	// Whoever serves GET serves HEAD (RFC 9110, section 9.1); net/http leaves
	// the body out.
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		router.Method(method, "/v1/rides", s.handle(s.authenticated(s.listRides)))
		router.Method(method, "/v1/rides/{id}", s.handle(s.authenticated(s.getRide)))
	}
	router.Post("/v1/rides", s.handle(keyed(s.authenticated(s.createRide))))
	return s.observe(router)
}

// problemFor translates an error into what the client may see: the one place
// where meaning becomes a status.
func problemFor(err error) *web.ProblemError {
	var foreign *phases.ForeignError
	switch {
	case errors.As(err, &foreign):
		refused := web.NewProblemError(web.CodePaymentProcessorUnavailable, err)
		refused.RetryAfter = seconds(foreign.RetryAfter)
		return refused
	case errors.Is(err, phases.ErrKeyReused):
		return web.NewProblemError(web.CodeIdempotencyKeyReused, err)
	case errors.Is(err, phases.ErrKeyExpired):
		return web.NewProblemError(web.CodeIdempotencyKeyExpired, err)
	case errors.Is(err, phases.ErrParked):
		return web.NewProblemError(web.CodePaymentUnderReview, err)
	case errors.Is(err, phases.ErrInUse):
		return later(web.NewProblemError(web.CodeIdempotencyKeyInUse, err))
	case errors.Is(err, accounts.ErrAPIKeyMissing), errors.Is(err, accounts.ErrAPIKeyInvalid):
		return web.NewProblemError(web.CodeUnauthenticated, err)
	case isUnavailable(err):
		return later(web.NewProblemError(web.CodeUnavailable, err))
	default:
		return web.AsProblem(err)
	}
}

// isUnavailable tells whether err would not happen again at another time or in
// another process.
func isUnavailable(err error) bool {
	for _, passing := range []error{
		phases.ErrUnavailable, phases.ErrUnknownVersion, phases.ErrPaused, phases.ErrDraining, phases.ErrBusy,
		phases.ErrAborted, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// later spreads clients that were refused together.
func later(refused *web.ProblemError) *web.ProblemError {
	refused.RetryAfter += rand.IntN(2) //nolint:gosec // spreading load needs no secrecy
	return refused
}

// seconds rounds a wait up to whole seconds for Retry-After, within what is
// kind to ask of a client.
func seconds(wait time.Duration) int {
	const longest = time.Minute
	return int((min(max(wait, time.Second), longest) + time.Second - 1) / time.Second)
}
