package commands

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// A daemon one of whose listeners fails ends as after a signal: the ride that
// runs is released and its client is told to retry, and the daemon's work ends.
// It returns what has failed.
func TestAListenerThatFailsEndsTheDaemonInOrder(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	gate := make(chan struct{})
	defer close(gate)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	parts := s.open(t)
	service := rides.NewService(rides.Config{
		Pool: parts.pool, Engine: parts.engine, Stripe: parts.stripe, StripeAccount: parts.pin.Account, MaxFare: 50_000,
	})
	d := daemon{engine: parts.engine, log: slog.New(slog.DiscardHandler), shutdownTimeout: time.Second, drain: service.Drain}
	defer d.close()
	public, err := d.listen(t.Context(), "listen", "127.0.0.1:0", service.Handler())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.listen(t.Context(), "admin-listen", "127.0.0.1:0", http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	worked := false
	ended := make(chan error, 1)
	go func() {
		ended <- d.serve(t.Context(), func(ctx context.Context) { <-ctx.Done(); worked = true })
	}()
	answers := s.hailInBackground(&process{api: "http://" + public}, "k")
	s.waitForStripe(t, 1)
	if err := d.listeners[1].Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) || !worked {
			t.Errorf("it ended with %v; its work has ended: %t", err, worked)
		}
	case <-time.After(time.Minute):
		t.Fatal("it doesn't end")
	}
	if a := <-answers; a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("the ride got %d %s %v", a.status, a.body, a.err)
	}
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys WHERE leased_until IS NULL AND finished_at IS NULL`); n != 1 {
		t.Errorf("%d keys are released, want 1", n)
	}
}

// open opens in this process what a daemon runs flows with, with a lease that no
// test outlasts.
func (s *scene) open(t *testing.T) engineParts {
	t.Helper()
	flags := engineFlags{
		databaseFlags: databaseFlags{DatabaseURL: s.databaseURL},
		stripeFlags: stripeFlags{
			StripeAPIKey:    "sk_test_scene",
			stripeCallFlags: stripeCallFlags{StripeURL: s.stripeURL, StripeTimeout: 5 * time.Minute},
		},
		Phases: "fused", Lease: 10 * time.Minute, BackoffInitial: time.Second, BackoffMax: time.Minute,
		MaxAttempts: 10, MaxRides: 10, MaxPerAccount: 10, Connections: 6,
	}
	parts, err := flags.open(t.Context(), "test", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(parts.pool.Close)
	if err := parts.pin.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return parts
}
