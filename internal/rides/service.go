package rides

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// Config is what a Service needs.
type Config struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// Engine runs the flows. It must know those that Flows returns.
	Engine *phases.Engine
	// Stripe is asked for charges.
	Stripe *payments.Stripe
	// StripeAccount returns the id of the Stripe account that charges go to, or
	// "" while it isn't known. Events of other accounts are ignored. nil means
	// that it is never known.
	StripeAccount func() string
	// EventSecrets are those that Stripe signs its events with. Without one,
	// every event is refused.
	EventSecrets []string
	// Unconfirmed is that of the engine's [phases.Config], for the commits of
	// received events.
	Unconfirmed func(conn *pgx.Conn) bool
	// MaxFare is the most that a ride may cost, in cents.
	MaxFare int64
	// RateLimit is how many requests each account may send; the zero value is
	// no limit.
	RateLimit limit.Rate
	// TrustedProxies are those whose X-Forwarded-For says who the client is.
	TrustedProxies []netip.Prefix
	// MaxWaiting bounds the clients that wait or follow a stream at once. What
	// exceeds it is answered as if it had not preferred to. 0 lets nobody wait.
	MaxWaiting int
	// Callbacks says where callbacks may go. nil means public addresses only.
	Callbacks *callbacks.Guard
	// Logger takes one line for each request. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers rides_http_…, rides_waiting…, rides_rate_limited_… and
	// rides_stripe_events_…. nil means nowhere.
	Metrics prometheus.Registerer
}

// Service answers clients. It is safe for concurrent use.
type Service struct {
	pool     *pgxpool.Pool
	engine   *phases.Engine
	hail     phases.Flow
	cancel   phases.Flow
	stripe   *payments.Stripe
	recheck  func(context.Context, http.Header, time.Duration) error
	identify func(ctx context.Context, header http.Header, sender string) (accounts.Principal, error)
	limits   *limits
	proxies  []netip.Prefix
	live     bool
	maxFare  int64
	guard    *callbacks.Guard
	log      *slog.Logger
	metrics  prometheus.Registerer
	draining atomic.Bool
	events   *receiver
	watcher  *watcher
	// rerunTimeout bounds rerun.
	rerunTimeout time.Duration
	// pulse is streamPulse, except in tests.
	pulse time.Duration
}

// Flows returns the flows of the service, which every engine must know that
// works on its keys.
func Flows(pay *payments.Stripe, store accounts.Store) []phases.Flow {
	return []phases.Flow{hail(pay, store), cancel(pay, store), refundLate(pay, store)}
}

// A chargeFlow is what is special about a flow that charges a card.
type chargeFlow struct {
	// from is the point that its charge starts from.
	from string
	// notCharged carries out the decision that a parked key was not charged.
	notCharged phases.AtomicFunc
}

// chargeFlows returns the flows that charge cards, by name.
func chargeFlows() map[string]chargeFlow {
	return map[string]chargeFlow{hailFlow: {from: pointRide, notCharged: notCharged}}
}

// ChargeFlows returns the names of the flows that charge cards. An operator can
// stop them while money is still given back.
func ChargeFlows() []string { return slices.Collect(maps.Keys(chargeFlows())) }

// NewService returns the service.
func NewService(config Config) *Service {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Callbacks == nil {
		config.Callbacks = callbacks.NewGuard()
	}
	live := config.Stripe.Live()
	authenticator := accounts.NewAuthenticator(config.Pool, live, config.Engine.Rerun)
	return &Service{
		pool:     config.Pool,
		engine:   config.Engine,
		hail:     hail(config.Stripe, accounts.Store{Pool: config.Pool}),
		cancel:   cancel(config.Stripe, accounts.Store{Pool: config.Pool}),
		stripe:   config.Stripe,
		recheck:  authenticator.Recheck,
		identify: authenticator.AuthenticateFrom,
		limits:   newLimits(config),
		proxies:  config.TrustedProxies,
		live:     live,
		maxFare:  config.MaxFare,
		guard:    config.Callbacks,
		log:      config.Logger,
		metrics:  config.Metrics,
		events:   newReceiver(config),
		watcher:  newWatcher(config),

		rerunTimeout: 5 * time.Second,
		pulse:        streamPulse,
	}
}

// Drain makes the service refuse every request that would claim a key, and ends
// every wait and every stream. Keys that have their answer are still answered.
func (s *Service) Drain() {
	s.draining.Store(true)
	s.engine.Drain()
	s.watcher.drain()
}

// Draining reports whether Drain was called.
func (s *Service) Draining() bool { return s.draining.Load() }

// Handler returns the public API. Call it once: it registers its metrics.
func (s *Service) Handler() http.Handler { return s.router() }

func (s *Service) router() *web.Router {
	router := web.NewRouter(s.log, s.metrics)
	router.TrustProxies(s.proxies)
	router.RefuseCrowds(s.engine.Crowded)
	router.Get("/v1/rides", s.authenticated(s.listRides), listParams()...)
	router.Get("/v1/rides/{id}", s.authenticated(s.getRide))
	router.Post("/v1/rides", s.keyed(keyedRoute{flow: s.hail, check: s.checkParams, pending: s.pendingRide}))
	router.Post("/v1/rides/{id}/cancel", s.keyed(keyedRoute{
		flow: s.cancel, check: checkCancel, ask: s.askForDisputes, waiting: s.openRefund, refunds: true, bodyOptional: true,
	}))
	router.PostUnkeyed("/v1/stripe/events", s.events.receive)
	addReference(router)
	return router
}

// An accountHandler is a handler of a request that acts for an account.
type accountHandler func(w http.ResponseWriter, r *web.Request, who accounts.Principal) error

// authenticated calls next only for requests with a valid API key.
func (s *Service) authenticated(next accountHandler) web.Handler {
	return func(w http.ResponseWriter, r *web.Request) error {
		who, err := s.authenticate(w, r)
		if err != nil {
			return err
		}
		return next(w, r, who)
	}
}

// authenticate returns the account that a request acts for, or the refusal:
// there is none, or it sends too many requests.
func (s *Service) authenticate(w http.ResponseWriter, r *web.Request) (accounts.Principal, error) {
	who, err := s.identify(r.Context(), r.Header, r.Client())
	switch {
	case errors.Is(err, accounts.ErrUnauthenticated):
		// RFC 9110, section 15.5.2, demands this header, and RFC 6750, section
		// 3, gives its form.
		w.Header().Set("WWW-Authenticate", `Bearer realm="rocketrides"`)
		return who, web.NewProblemError(web.CodeUnauthenticated, err)
	case errors.Is(err, accounts.ErrTooManyGuesses):
		return who, s.limits.refuseSender(err)
	case err != nil:
		return who, err
	}
	r.RecordAccount(who.AccountID)
	return who, s.limits.take(w.Header(), who.AccountID)
}

// rerun runs a statement for a request within rerunTimeout, and runs it again if
// its connection turns out to be dead. So a second run must change nothing more;
// see [phases.Rerun].
func (s *Service) rerun(ctx context.Context, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.rerunTimeout)
	defer cancel()
	return s.engine.Rerun(ctx, run)
}
