package phases_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/tripwire"
	"github.com/rocketrides/rocketrides/internal/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The flow under test has nothing to do with rides: a parcel is packed, a
// carrier in the outside world is booked, and a label is printed.
const (
	packed = "packed"
	booked = "booked"
)

type (
	bookingForm string
	booking     struct {
		Number string
		Status string // booked, refused, working, odd
	}
)

func parcels(c *carrier, version int) phases.Flow {
	return phases.NewFlow("parcel", version,
		phases.Atomic(packed, c.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: c.prepare, Do: c.do, Find: c.find, Record: record,
		}),
		phases.Atomic(phases.Finished, printLabel),
	)
}

func (c *carrier) pack(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	if hook := c.hooks().pack; hook != nil {
		if outcome, err := hook(tx, key); err != nil || outcome != nil {
			return decided(outcome), err
		}
	}
	tx.QueueOnce(`INSERT INTO parcels (account_id, key, writes) VALUES ($1, $2, 1)`, key.Account, key.Key)
	phases.Know(tx, booking{Number: "out of date"})
	return phases.Advance(), nil
}

func decided(outcome *phases.Outcome) phases.Outcome {
	if outcome == nil {
		return phases.Outcome{}
	}
	return *outcome
}

func (c *carrier) prepare(_ *phases.Tx, key phases.Key) (bookingForm, phases.Outcome, error) {
	form := "parcel=" + key.Key
	if tariff := c.hooks().tariff; tariff != "" {
		form += "&tariff=" + tariff
	}
	return bookingForm(form), phases.Advance(), nil
}

func record(tx *phases.Tx, key phases.Key, _ bookingForm, b booking) (phases.Outcome, error) {
	switch b.Status {
	case "booked":
		// Not idempotent, on purpose: run twice it would show.
		tx.Queue(`UPDATE parcels SET booking = $3, writes = writes + 1 WHERE account_id = $1 AND key = $2`,
			key.Account, key.Key, b.Number)
		phases.Know(tx, b)
		return phases.Advance(), nil
	case "refused":
		return phases.Finish(402, nil, []byte("refused")), nil
	case "working":
		return phases.Wait(10*time.Millisecond, b.Number), nil
	default:
		return phases.Park("odd_booking", b.Status), nil
	}
}

func printLabel(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	b, ok := phases.Known[booking](tx)
	if !ok {
		err := tx.QueryRow(`SELECT booking FROM parcels WHERE account_id = $1 AND key = $2`, key.Account, key.Key).Scan(&b.Number)
		if err != nil {
			return phases.Outcome{}, fmt.Errorf("reading parcel: %w", err)
		}
	}
	tx.Queue(`UPDATE parcels SET labels = labels + 1, writes = writes + 1 WHERE account_id = $1 AND key = $2`, key.Account, key.Key)
	return phases.Finish(201, map[string]string{"Content-Type": "text/label", "X-Label": "yes"}, []byte("label "+b.Number)), nil
}

// carrier is the outside world: it books once per key and replays its answer,
// as Stripe does, and remembers every send.
type carrier struct {
	mu       sync.Mutex
	bookings map[string]booking // by foreign key
	sends    []send
	finds    int
	hook     hooks
}

type send struct {
	key  string
	form string
	sent phases.Sent[bookingForm]
}

// hooks change the carrier's and the flow's behaviour for one test.
type hooks struct {
	// pack decides instead of the first phase, where it returns an outcome.
	pack func(tx *phases.Tx, key phases.Key) (*phases.Outcome, error)
	// before runs before the carrier books; an error ends the call unbooked.
	before func(ctx context.Context, n int) error
	// after runs after it has booked; an error loses the answer.
	after func(ctx context.Context, n int) error
	// answer is what it answers instead of booked.
	answer string
	// find replaces the look-up.
	find   func(sent phases.Sent[bookingForm]) (booking, error)
	tariff string
}

func newCarrier() *carrier { return &carrier{bookings: map[string]booking{}} }

func (c *carrier) set(h hooks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

func (c *carrier) hooks() hooks {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hook
}

func (c *carrier) do(ctx context.Context, sent phases.Sent[bookingForm]) (booking, error) {
	c.mu.Lock()
	c.sends = append(c.sends, send{key: sent.Key, form: string(sent.Form), sent: sent})
	n, hook := len(c.sends), c.hook
	c.mu.Unlock()
	if hook.before != nil {
		if err := hook.before(ctx, n); err != nil {
			return booking{}, err
		}
	}
	b := c.book(sent.Key, hook.answer)
	if hook.after != nil {
		if err := hook.after(ctx, n); err != nil {
			return booking{}, err
		}
	}
	return b, nil
}

func (c *carrier) book(key, status string) booking {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.bookings[key]; ok {
		return b
	}
	if status == "" {
		status = "booked"
	}
	b := booking{Number: fmt.Sprintf("B%d", len(c.bookings)+1), Status: status}
	c.bookings[key] = b
	return b
}

func (c *carrier) find(_ context.Context, sent phases.Sent[bookingForm]) (booking, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finds++
	if c.hook.find != nil {
		return c.hook.find(sent)
	}
	if b, ok := c.bookings[sent.Key]; ok {
		return b, nil
	}
	return booking{}, phases.ErrNothingFound
}

func (c *carrier) sent() []send {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]send(nil), c.sends...)
}

func (c *carrier) found() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finds
}

// bundle is what a test works with: a database with tripwires, a carrier, and an
// engine whose connections can be cut.
type bundle struct {
	url     string
	pool    *pgxpool.Pool // the test's own, never cut
	wire    *wire.Postgres
	carrier *carrier
	engine  *phases.Engine
	flow    phases.Flow
}

type option func(*phases.Config)

func stepwise(c *phases.Config) { c.Stepwise = true }

func setup(t *testing.T, options ...option) *bundle {
	t.Helper()
	b := &bundle{url: pgtest.URL(t), carrier: newCarrier(), wire: wire.NewPostgres()}
	b.pool = pgtest.Open(t, postgres.Options{URL: b.url})
	b.exec(t, `CREATE TABLE parcels (account_id text, key text, booking text, labels int DEFAULT 0, writes int,
		CONSTRAINT parcels_pkey PRIMARY KEY (account_id, key))`)
	if err := tripwire.Install(t.Context(), b.pool, phases.Started, packed, booked, phases.Finished); err != nil {
		t.Fatal(err)
	}
	b.flow = parcels(b.carrier, 1)
	b.engine = b.newEngine(t, b.wire, options...)
	return b
}

// newEngine returns another engine on the same database, as another process
// would have; its connections go through w, when that is given.
func (b *bundle) newEngine(t *testing.T, w *wire.Postgres, options ...option) *phases.Engine {
	t.Helper()
	o := postgres.Options{URL: b.url}
	if w != nil {
		o.DialFunc = w.Dial
	}
	config := phases.Config{
		Pool: pgtest.Open(t, o), Flows: []phases.Flow{parcels(b.carrier, 1)}, Realm: "test",
		Lease: 20 * time.Second, CallTimeout: 10 * time.Second,
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 20 * time.Millisecond},
		MaxAttempts: 3, Unconfirmed: postgres.TookDoubtfulCommit,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, option := range options {
		option(&config)
	}
	engine, err := phases.NewEngine(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if left := engine.Shutdown(ctx); left > 0 {
			t.Errorf("%d attempts were still running when the test ended", left)
		}
	})
	return engine
}

func request(key string) phases.Request {
	return phases.Request{
		Account: "acct_1", Key: key, RequestID: "req_" + key, Method: "POST", Path: "/parcels",
		Params: `{"to":"moon"}`, CanonVersion: 1,
		Hash: func(version int) ([]byte, bool) {
			hash := sha256.Sum256([]byte("POST /parcels moon"))
			return hash[:], version == 1
		},
		Check: func() error { return nil },
	}
}

func (b *bundle) run(t *testing.T, key string) (phases.Result, error) {
	t.Helper()
	return b.engine.Run(t.Context(), b.flow, request(key))
}

// mustRun runs a request that must be answered with a label.
func (b *bundle) mustRun(t *testing.T, key string) phases.Result {
	t.Helper()
	result, err := b.run(t, key)
	if err != nil {
		t.Fatalf("running %s: %v", key, err)
	}
	if got := result.Answer.Status; got != 201 {
		t.Fatalf("running %s: status %d, want 201", key, got)
	}
	return result
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](t *testing.T, b *bundle, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// expire ends the leases that are left and makes everything due, as the time
// that a test doesn't wait for would.
func (b *bundle) expire(t *testing.T) {
	t.Helper()
	b.exec(t, `UPDATE idempotency_keys SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL`)
	b.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 second' WHERE finished_at IS NULL`)
}

func (b *bundle) completer(engine *phases.Engine) *phases.Completer {
	return &phases.Completer{
		Engine: engine, Poll: 5 * time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour,
	}
}

// complete does one round of a completer that has its own process.
func (b *bundle) complete(t *testing.T) phases.Counts {
	t.Helper()
	counts, err := b.completer(b.newEngine(t, nil)).Once(t.Context())
	if err != nil {
		t.Fatalf("completing: %v", err)
	}
	return counts
}

func (b *bundle) keys() phases.Keys { return phases.Keys{Pool: b.pool} }

func (b *bundle) show(t *testing.T, key string) phases.Record {
	t.Helper()
	found, err := b.keys().Show(t.Context(), "acct_1", key)
	if err != nil || len(found) != 1 {
		t.Fatalf("showing %s: %d keys, %v", key, len(found), err)
	}
	return found[0]
}

// checkDone checks everything that must hold of a key that was labelled.
func (b *bundle) checkDone(t *testing.T, key string) {
	t.Helper()
	if got := value[string](t, b, `SELECT recovery_point FROM idempotency_keys WHERE key = $1`, key); got != phases.Finished {
		t.Errorf("key %s stands at %s, want finished", key, got)
	}
	var labels, writes int
	if err := b.pool.QueryRow(t.Context(), `SELECT labels, writes FROM parcels WHERE key = $1`, key).Scan(&labels, &writes); err != nil {
		t.Fatal(err)
	}
	if labels != 1 || writes != 3 {
		t.Errorf("parcel %s has %d labels after %d writes, want 1 after 3", key, labels, writes)
	}
	if got := value[bool](t, b, `SELECT convert_from(k.response_body, 'UTF8') = 'label ' || p.booking
		FROM idempotency_keys k JOIN parcels p USING (account_id, key) WHERE key = $1`, key); !got {
		t.Errorf("the label of parcel %s is not that of its booking", key)
	}
	b.checkSends(t)
	if got := len(b.carrier.bookings); got > value[int](t, b, `SELECT count(*) FROM parcels`) {
		t.Errorf("%d bookings for fewer parcels", got)
	}
}

// checkSends checks that all sends of a key are one send: same foreign key, same
// bytes.
func (b *bundle) checkSends(t *testing.T) {
	t.Helper()
	forms := map[string]string{}
	for _, s := range b.carrier.sent() {
		if first, ok := forms[s.key]; ok && first != s.form {
			t.Errorf("key %s was sent with %q and with %q", s.key, first, s.form)
		}
		forms[s.key] = s.form
	}
	if len(forms) > value[int](t, b, `SELECT count(*) FROM idempotency_keys`) {
		t.Errorf("%d foreign keys for fewer keys", len(forms))
	}
}

var errLost = errors.New("the answer was lost")
