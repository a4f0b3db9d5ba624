package rides

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/tripwire"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	sanFranciscoJSON = `{"lat":37.7749,"lon":-122.4194}`
	oaklandJSON      = `{"lat":37.8044,"lon":-122.2712}`
	aRide            = `{"origin":` + sanFranciscoJSON + `,"target":` + oaklandJSON + `}`
	// stripeKey is the API key for the fake Stripe.
	stripeKey = "sk_test_harness"
	// stripeAccount is the one that stripeKey belongs to, and eventSecret the
	// one that it signs its events with.
	stripeAccount    = "acct_fake"
	eventSecret      = "whsec_harness0123456789abcdef"
	otherEventSecret = "whsec_former0123456789abcdef0"
	// mostBytes is the most that a body may have.
	mostBytes = 64 << 10
	// callTimeout is how long a process waits for Stripe, unless a test says
	// otherwise.
	callTimeout = 10 * time.Second
)

// A harness is a whole service: a database of its own with tripwires, a fake
// Stripe, three accounts, and a process that serves the API over HTTP.
type harness struct {
	url    string        // of the database
	pool   *pgxpool.Pool // the test's own, which no fault cuts
	wire   *wire.Postgres
	fake   *fakestripe.Server
	stripe string // URL of the fake
	log    *slog.Logger
	// stripeRate is how many requests a second a process that is started sends
	// to the fake; 0 is no limit. callTimeout is how long it waits for an
	// answer.
	stripeRate  float64
	callTimeout time.Duration

	*process
	visa, declined, second accounts.Credentials
}

// A process is one process of the service.
type process struct {
	config  Config
	service *Service
	engine  *phases.Engine
	stripe  *payments.Stripe
	api     string // URL
	// record gets every exchange with the API, if it isn't nil.
	record func(apitest.Exchange)
	// undocumented says that the process serves a route of a test's own.
	undocumented bool
}

type setting func(*phases.Config)

func stepwise(c *phases.Config) { c.Stepwise = true }

func newHarness(tb testing.TB, settings ...setting) *harness {
	tb.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{WebhookSecret: eventSecret})
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(fake)
	tb.Cleanup(func() { _ = fake.Close(); server.Close() })
	h := &harness{url: pgtest.URL(tb), wire: wire.NewPostgres(), fake: fake, stripe: server.URL, log: slog.New(slog.DiscardHandler), callTimeout: callTimeout}
	h.pool = pgtest.Open(tb, postgres.Options{URL: h.url})
	if !pgtest.OnCitus() { // a distributed table has no triggers
		if err := tripwire.Install(tb.Context(), h.pool, append(Flows(nil, accounts.Store{}), waving(nil))...); err != nil {
			tb.Fatal(err)
		}
	}
	store := accounts.Store{Pool: h.pool}
	for customer, credentials := range map[string]*accounts.Credentials{"cus_visa": &h.visa, "cus_declined": &h.declined, "cus_second": &h.second} {
		method := "pm_card_visa"
		if customer == "cus_declined" {
			method = "pm_card_chargeCustomerFail"
		}
		*credentials, err = store.Create(tb.Context(), accounts.NewAccount{
			Email: customer + "@example.com", StripeCustomer: customer, PaymentMethod: method,
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	h.process = h.startProcess(tb, h.wire, settings...)
	return h
}

// startProcess starts another process on the harness's database. It connects
// through line, if that isn't nil.
func (h *harness) startProcess(tb testing.TB, line *wire.Postgres, settings ...setting) *process {
	tb.Helper()
	options := postgres.Options{URL: h.url, MaxConns: 12}
	if line != nil {
		options.DialFunc = line.Dial
	}
	stripe, err := payments.NewStripe(payments.Config{Key: stripeKey, URL: h.stripe, Timeout: h.callTimeout, Saved500After: time.Hour, RefusedPause: time.Millisecond, Rate: h.stripeRate, Logger: h.log})
	if err != nil {
		tb.Fatal(err)
	}
	pool := pgtest.Open(tb, options)
	config := phases.Config{
		Pool: pool, Flows: Flows(stripe, accounts.Store{Pool: pool}), Realm: stripe.Realm,
		Lease: 20 * time.Second, CallTimeout: h.callTimeout,
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		MaxAttempts: 3, Unconfirmed: postgres.TookDoubtfulCommit, Logger: h.log,
	}
	for _, set := range settings {
		set(&config)
	}
	engine, err := phases.NewEngine(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		engine.Shutdown(ctx)
	})
	p := &process{engine: engine, stripe: stripe, config: Config{
		Pool: config.Pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, MaxWaiting: 10_000, Logger: h.log,
		StripeAccount: func() string { return stripeAccount }, EventSecrets: []string{otherEventSecret, eventSecret},
		Unconfirmed: postgres.TookDoubtfulCommit,
	}}
	p.service = NewService(p.config)
	return p.serving(tb, p.service.Handler())
}

// serving returns the process with another handler.
func (p *process) serving(tb testing.TB, handler http.Handler) *process {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	other := *p
	other.api = server.URL
	return &other
}

func (h *harness) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := h.pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func number(t *testing.T, h *harness, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := h.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// expire ends all leases and makes every unfinished key due.
func (h *harness) expire(t *testing.T) {
	t.Helper()
	h.exec(t, `UPDATE idempotency_keys SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL`)
	h.exec(t, `UPDATE idempotency_keys SET calling_until = now() - interval '1 second' WHERE calling_until IS NOT NULL`)
	h.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 second' WHERE finished_at IS NULL`)
}

// complete runs one round of a completer in another process.
func (h *harness) complete(t *testing.T) phases.Counts {
	t.Helper()
	completer := phases.Completer{
		Engine: h.startProcess(t, nil).engine, Poll: time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour,
	}
	counts, err := completer.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// key returns an account's key as operators see it.
func (h *harness) key(t *testing.T, who accounts.Credentials, key string) phases.Record {
	t.Helper()
	found, err := phases.Keys{Pool: h.pool}.Show(t.Context(), who.AccountID, key)
	if err != nil || len(found) != 1 {
		t.Fatalf("showing %s: %d keys, %v", key, len(found), err)
	}
	return found[0]
}

// holdCharge makes Stripe hold the next charge before it executes it. reached
// waits until Stripe has it, and release lets it go on.
func (h *harness) holdCharge(t *testing.T) (reached func(), release func()) {
	t.Helper()
	gate := make(chan struct{})
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	before := len(h.fake.Ledger())
	reached = func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := h.fake.WaitSends(ctx, before+1, func(s fakestripe.Send) bool { return s.Method == http.MethodPost }); err != nil {
			t.Fatalf("waiting for Stripe to be asked: %v", err)
		}
	}
	return reached, func() { close(gate) }
}

// resolver returns a resolver that works through the process.
func (h *harness) resolver() Resolver {
	return Resolver{Engine: h.engine, Stripe: h.process.stripe, Accounts: accounts.Store{Pool: h.pool}}
}
