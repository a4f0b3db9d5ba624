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
	// stripeKey is the key of a fake Stripe, or of none at all.
	stripeKey = "sk_test_town"
	// mostBytes is the most that a body may have.
	mostBytes = 64 << 10
)

// town is a whole service: a database of its own with tripwires, a fake Stripe,
// and the API over HTTP.
type town struct {
	url    string        // of the database
	pool   *pgxpool.Pool // the test's own, never cut
	wire   *wire.Postgres
	fake   *fakestripe.Server
	stripe string // URL of the fake

	*office
	visa, declined, second accounts.Credentials
}

// office is one process of the service.
type office struct {
	service *Service
	engine  *phases.Engine
	stripe  *payments.Stripe
	api     string // URL
}

type setting func(*phases.Config)

func stepwise(c *phases.Config) { c.Stepwise = true }

func newTown(t *testing.T, settings ...setting) *town {
	t.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake)
	t.Cleanup(func() { _ = fake.Close(); server.Close() })
	w := &town{url: pgtest.URL(t), wire: wire.NewPostgres(), fake: fake, stripe: server.URL}
	w.pool = pgtest.Open(t, postgres.Options{URL: w.url})
	if err := tripwire.Install(t.Context(), w.pool, hail(nil).RecoveryPoints()...); err != nil {
		t.Fatal(err)
	}
	store := accounts.Store{Pool: w.pool}
	for customer, credentials := range map[string]*accounts.Credentials{"cus_visa": &w.visa, "cus_declined": &w.declined, "cus_second": &w.second} {
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
	w.office = w.openOffice(t, w.wire, settings...)
	return w
}

// openOffice starts another process on the town's database.
func (w *town) openOffice(t *testing.T, line *wire.Postgres, settings ...setting) *office {
	t.Helper()
	options := postgres.Options{URL: w.url, MaxConns: 12}
	if line != nil {
		options.DialFunc = line.Dial
	}
	stripe, err := payments.NewStripe(payments.Config{Key: stripeKey, URL: w.stripe, Timeout: 10 * time.Second, Saved500After: time.Hour, RefusedPause: time.Millisecond})
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
	o := &office{engine: engine, stripe: stripe}
	o.service = NewService(Config{Pool: config.Pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(o.service.Handler())
	o.api = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		engine.Shutdown(ctx)
		server.Close()
	})
	return o
}

// reply is an answer of the API.
type reply struct {
	status  int
	header  http.Header
	body    string
	problem web.Problem
	ride    Ride
}

// call is a request to be.
type call struct {
	method, path, body string
	key                string
	as                 accounts.Credentials
	header             http.Header
}

// send makes one request. Answers are checked for what every answer must have.
func (o *office) send(t *testing.T, c call) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, o.api+c.path, strings.NewReader(c.body))
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
func (o *office) hailAs(t *testing.T, who accounts.Credentials, key string) reply {
	t.Helper()
	return o.send(t, call{method: "POST", path: "/v1/rides", body: aRide, key: key, as: who})
}

// must fails the test when the reply isn't as it has to be.
func (r reply) must(t *testing.T, status int, code web.Code) reply {
	t.Helper()
	if r.status != status || r.problem.Code != code {
		t.Fatalf("got %d %s, want %d %s: %s", r.status, r.problem.Code, status, code, r.body)
	}
	return r
}

func (w *town) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := w.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func number(t *testing.T, w *town, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := w.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// expire ends the leases that are left and makes everything due.
func (w *town) expire(t *testing.T) {
	t.Helper()
	w.exec(t, `UPDATE idempotency_keys SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL`)
	w.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 second' WHERE finished_at IS NULL`)
}

// complete does one round of a completer in a process of its own.
func (w *town) complete(t *testing.T) phases.Counts {
	t.Helper()
	completer := phases.Completer{
		Engine: w.openOffice(t, nil).engine, Poll: time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour,
	}
	counts, err := completer.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// key returns an account's key as operators see it.
func (w *town) key(t *testing.T, who accounts.Credentials, key string) phases.Record {
	t.Helper()
	found, err := phases.Keys{Pool: w.pool}.Show(t.Context(), who.AccountID, key)
	if err != nil || len(found) != 1 {
		t.Fatalf("showing %s: %d keys, %v", key, len(found), err)
	}
	return found[0]
}

// checkCharged checks everything that must hold of a ride that was charged, in
// the database and at Stripe.
func (w *town) checkCharged(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	ride := w.send(t, call{method: "GET", path: "/v1/rides/" + rideID(who.AccountID, key), as: who}).must(t, 200, "").ride
	if ride.Status != StatusCharged || ride.Charge == nil {
		t.Fatalf("the ride is %s with charge %v", ride.Status, ride.Charge)
	}
	var intents []fakestripe.PaymentIntent
	for _, intent := range w.fake.PaymentIntents() {
		if intent.Metadata["ride_id"] == ride.ID {
			intents = append(intents, intent)
		}
	}
	if len(intents) != 1 || w.fake.Charges()[ride.ID] != 1 {
		t.Fatalf("Stripe has %d intents and %d charges for the ride, want one", len(intents), w.fake.Charges()[ride.ID])
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
		if n := number(t, w, sql, who.AccountID, key); n != 1 {
			t.Errorf("%d rows, want 1: %s", n, sql)
		}
	}
	w.checkSends(t)
}

// checkSends checks that what was sent under one key was one form, byte for
// byte, and in one operation.
func (w *town) checkSends(t *testing.T) {
	t.Helper()
	bodies := map[string]string{}
	for _, send := range w.fake.Ledger() {
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

// waitFor polls a condition that something else brings about.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// held scripts Stripe to hold the next charge before it executes it, and
// returns how to wait for that and how to go on.
func (w *town) held(t *testing.T) (reached func(), leave func()) {
	t.Helper()
	gate := make(chan struct{})
	w.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	before := len(w.fake.Ledger())
	reached = func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := w.fake.WaitSends(ctx, before+1, func(s fakestripe.Send) bool { return s.Method == http.MethodPost }); err != nil {
			t.Fatalf("waiting for Stripe to be asked: %v", err)
		}
	}
	return reached, func() { close(gate) }
}
