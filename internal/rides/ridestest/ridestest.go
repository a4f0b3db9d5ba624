// Package ridestest runs the whole service for tests of what calls it: clients
// and simulators. It has a database of its own, a fake Stripe, an API over HTTP
// and a completer. A package that uses it has the TestMain of pgtest.
package ridestest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// A Service is a running service.
type Service struct {
	// URL is the API's, and Handler what serves it.
	URL     string
	Handler http.Handler
	// APIKey is that of an account whose card works.
	APIKey string
	// Stripe is the fake Stripe, and StripeURL where it listens.
	Stripe    *fakestripe.Server
	StripeURL string
}

// Start starts a service. It ends with the test.
func Start(tb testing.TB) *Service {
	tb.Helper()
	return StartWith(tb, func(fake *fakestripe.Server) http.Handler { return fake })
}

// StartWith starts a service whose Stripe is what wrap makes of the fake.
func StartWith(tb testing.TB, wrap func(*fakestripe.Server) http.Handler) *Service {
	tb.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		tb.Fatalf("opening the fake Stripe: %v", err)
	}
	server := httptest.NewServer(wrap(fake))
	tb.Cleanup(func() { _ = fake.Close(); server.Close() })
	s := &Service{Stripe: fake, StripeURL: server.URL}
	if err := s.start(tb); err != nil {
		tb.Fatalf("starting the service: %v", err)
	}
	return s
}

func (s *Service) start(tb testing.TB) error {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	pool := pgtest.Open(tb, postgres.Options{URL: pgtest.URL(tb), MaxConns: 12})
	store := accounts.Store{Pool: pool}
	account, err := store.Create(tb.Context(), accounts.NewAccount{
		Email: "visa@example.com", StripeCustomer: "cus_visa", PaymentMethod: "pm_card_visa",
	})
	if err != nil {
		return err
	}
	s.APIKey = account.APIKey.Reveal()
	stripe, err := payments.NewStripe(payments.Config{
		Key: "sk_test_ridestest", URL: s.StripeURL, Timeout: 10 * time.Second, Saved500After: time.Hour, RefusedPause: time.Millisecond, Logger: log,
	})
	if err != nil {
		return err
	}
	engine, err := phases.NewEngine(tb.Context(), phases.Config{
		Pool: pool, Flows: rides.Flows(stripe, store), Realm: stripe.Realm, Lease: 15 * time.Second, CallTimeout: 10 * time.Second,
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		MaxAttempts: 10, Unconfirmed: postgres.TookDoubtfulCommit, Logger: log,
	})
	if err != nil {
		return err
	}
	completing, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	completed := make(chan struct{})
	completer := phases.Completer{
		Engine: engine, Poll: 20 * time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 720 * time.Hour,
	}
	go func() { completer.Run(completing); close(completed) }()
	tb.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 15*time.Second)
		defer cancel()
		engine.Shutdown(ctx)
		<-completed
	})
	s.Handler = rides.NewService(rides.Config{
		Pool: pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, MaxWaiting: 1000, Logger: log,
	}).Handler()
	api := httptest.NewServer(s.Handler)
	tb.Cleanup(api.Close)
	s.URL = api.URL
	return nil
}

// An example is the test that an example is: a testing.TB for functions that
// have none.
type example struct {
	testing.TB

	cleanups []func()
}

// Example starts a service for an example. stop ends it.
func Example() (service *Service, stop func()) {
	tb := new(example)
	stop = func() {
		for _, cleanup := range slices.Backward(tb.cleanups) {
			cleanup()
		}
	}
	return Start(tb), stop
}

func (e *example) Helper()                  {}
func (e *example) Name() string             { return "example" }
func (e *example) Context() context.Context { return context.Background() }
func (e *example) Cleanup(f func())         { e.cleanups = append(e.cleanups, f) }
func (e *example) Failed() bool             { return false }

// Logf, Errorf, Fatalf and Skipf end the process: an example can neither fail
// nor be skipped in any other way.
func (e *example) Logf(format string, args ...any)   { panic(fmt.Sprintf(format, args...)) }
func (e *example) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (e *example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (e *example) Skipf(format string, args ...any)  { panic(fmt.Sprintf(format, args...)) }
