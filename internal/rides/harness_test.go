package rides

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
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
	// mostBytes is the most that a body may have.
	mostBytes = 64 << 10
)

// A harness is a whole service: a database of its own with tripwires, a fake
// Stripe, three accounts, and a process that serves the API over HTTP.
type harness struct {
	url    string        // of the database
	pool   *pgxpool.Pool // the test's own, which no fault cuts
	wire   *wire.Postgres
	fake   *fakestripe.Server
	stripe string // URL of the fake

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
}

type setting func(*phases.Config)

func stepwise(c *phases.Config) { c.Stepwise = true }

func newHarness(t *testing.T, settings ...setting) *harness {
	t.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake)
	t.Cleanup(func() { _ = fake.Close(); server.Close() })
	h := &harness{url: pgtest.URL(t), wire: wire.NewPostgres(), fake: fake, stripe: server.URL}
	h.pool = pgtest.Open(t, postgres.Options{URL: h.url})
	if err := tripwire.Install(t.Context(), h.pool, hail(nil).RecoveryPoints()...); err != nil {
		t.Fatal(err)
	}
	store := accounts.Store{Pool: h.pool}
	for customer, credentials := range map[string]*accounts.Credentials{"cus_visa": &h.visa, "cus_declined": &h.declined, "cus_second": &h.second} {
		method := "pm_card_visa"
		if customer == "cus_declined" {
			method = "pm_card_chargeCustomerFail"
		}
		*credentials, err = store.Create(t.Context(), accounts.NewAccount{
			Email: customer + "@example.com", StripeCustomer: customer, PaymentMethod: method,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.process = h.startProcess(t, h.wire, settings...)
	return h
}

// startProcess starts another process on the harness's database. It connects
// through line, if that isn't nil.
func (h *harness) startProcess(t *testing.T, line *wire.Postgres, settings ...setting) *process {
	t.Helper()
	options := postgres.Options{URL: h.url, MaxConns: 12}
	if line != nil {
		options.DialFunc = line.Dial
	}
	stripe, err := payments.NewStripe(payments.Config{Key: stripeKey, URL: h.stripe, Timeout: 10 * time.Second, Saved500After: time.Hour, RefusedPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	config := phases.Config{
		Pool: pgtest.Open(t, options), Flows: Flows(stripe), Realm: stripe.Realm(),
		Lease: 20 * time.Second, CallTimeout: 10 * time.Second,
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		MaxAttempts: 3, Unconfirmed: postgres.TookDoubtfulCommit, Logger: slog.New(slog.DiscardHandler),
	}
	for _, set := range settings {
		set(&config)
	}
	engine, err := phases.NewEngine(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		engine.Shutdown(ctx)
	})
	p := &process{engine: engine, stripe: stripe, config: Config{
		Pool: config.Pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, Logger: slog.New(slog.DiscardHandler),
	}}
	p.service = NewService(p.config)
	return p.serving(t, p.service.Handler())
}

// serving returns the process with another handler.
func (p *process) serving(t *testing.T, handler http.Handler) *process {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	other := *p
	other.api = server.URL
	return &other
}

// A reply is an answer of the API.
type reply struct {
	status  int
	header  http.Header
	body    string
	problem web.Problem
	ride    Ride
}

// A call is a request to be made.
type call struct {
	method, path, body string
	key                string
	as                 accounts.Credentials
	header             http.Header
}

// send makes one request, and checks what every answer must have.
func (p *process) send(t *testing.T, c call) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, p.api+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.as.AccountID != "" {
		request.Header.Set("Authorization", "Bearer "+c.as.APIKey.Reveal())
	}
	if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Idempotency-Key", c.key)
	}
	maps.Copy(request.Header, c.header)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	r := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	r.check(t)
	return r
}

func (r *reply) check(t *testing.T) {
	t.Helper()
	if !strings.HasPrefix(r.header.Get("Request-Id"), "req_") {
		t.Errorf("Request-Id is %q", r.header.Get("Request-Id"))
	}
	if !bytes.HasSuffix([]byte(r.body), []byte("\n")) {
		t.Errorf("body %q doesn't end its line", r.body)
	}
	if r.status < 400 {
		if got := r.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type is %q", got)
		}
		if err := json.Unmarshal([]byte(r.body), &r.ride); err != nil {
			t.Errorf("%v in %s", err, r.body)
		}
		return
	}
	if got := r.header.Get("Content-Type"); got != web.ProblemType {
		t.Errorf("Content-Type of a problem is %q", got)
	}
	if err := json.Unmarshal([]byte(r.body), &r.problem); err != nil {
		t.Errorf("%v in %s", err, r.body)
	}
	if p := r.problem; p.Type != "/problems/"+string(p.Code) || p.Status != r.status || p.Title == "" || p.Detail == "" || p.RequestID == "" {
		t.Errorf("incomplete problem: %s", r.body)
	}
	if r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

// hailAs hails the usual ride.
func (p *process) hailAs(t *testing.T, who accounts.Credentials, key string) reply {
	t.Helper()
	return p.send(t, call{method: "POST", path: "/v1/rides", body: aRide, key: key, as: who})
}

// must stops the test unless the reply has the given status and code.
func (r reply) must(t *testing.T, status int, code web.Code) reply {
	t.Helper()
	if r.status != status || r.problem.Code != code {
		t.Fatalf("got %d %s, want %d %s: %s", r.status, r.problem.Code, status, code, r.body)
	}
	return r
}

func (h *harness) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := h.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
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

// checkCharged checks everything that must be true of a ride that was charged, in
// the database and at Stripe.
func (h *harness) checkCharged(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(who.AccountID, key), as: who}).must(t, 200, "").ride
	if ride.Status != StatusCharged || ride.Charge == nil {
		t.Fatalf("the ride is %s with charge %v", ride.Status, ride.Charge)
	}
	var intents []fakestripe.PaymentIntent
	for _, intent := range h.fake.PaymentIntents() {
		if intent.Metadata["ride_id"] == ride.ID {
			intents = append(intents, intent)
		}
	}
	if len(intents) != 1 || h.fake.Charges()[ride.ID] != 1 {
		t.Fatalf("Stripe has %d intents and %d charges for the ride, want one", len(intents), h.fake.Charges()[ride.ID])
	}
	if intent := intents[0]; intent.ID != ride.Charge.PaymentIntent || intent.Amount != ride.Fare.Amount || intent.Currency != ride.Fare.Currency {
		t.Errorf("the ride has %+v for %+v, Stripe has %+v", ride.Charge, ride.Fare, intent)
	}
	for _, sql := range []string{
		`SELECT count(*) FROM rides WHERE account_id = $1 AND key = $2`,
		`SELECT count(*) FROM staged_jobs WHERE kind = 'receipt' AND account_id = $1 AND key = $2`,
		`SELECT count(*) FROM audit_records a JOIN rides r ON r.account_id = a.account_id AND r.id = a.ride_id
		 WHERE a.action = 'ride.created' AND r.account_id = $1 AND r.key = $2`,
		`SELECT count(*) FROM idempotency_keys WHERE recovery_point = 'finished' AND account_id = $1 AND key = $2`,
	} {
		if n := number(t, h, sql, who.AccountID, key); n != 1 {
			t.Errorf("%d rows, want 1: %s", n, sql)
		}
	}
	h.checkSends(t)
}

// checkSends checks that all sends under one key had the same bytes, and named
// the key as their operation (I6).
func (h *harness) checkSends(t *testing.T) {
	t.Helper()
	bodies := map[string]string{}
	for _, send := range h.fake.Ledger() {
		if send.Path != "/v1/payment_intents" {
			continue
		}
		if send.Key == "" || send.Params["metadata[operation]"] != send.Key {
			t.Errorf("a send has key %q and operation %q", send.Key, send.Params["metadata[operation]"])
		}
		if first, ok := bodies[send.Key]; ok && first != send.Body {
			t.Errorf("one key was sent with %q and with %q", first, send.Body)
		}
		bodies[send.Key] = send.Body
	}
}

// waitFor polls until done returns true.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("the condition never came true")
		}
		time.Sleep(2 * time.Millisecond)
	}
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
