package phases

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// An Engine takes requests through the phases of their flows. It is safe for
// concurrent use, and any number of engines share a database.
type Engine struct {
	config  Config
	flows   map[flowID]Flow
	log     *slog.Logger
	metrics *metrics
	// prepares means that connections keep prepared statements.
	prepares bool

	keys      keyTable
	gathering gathering
	door      *door
	// places has room for those who hold no key; see Read.
	places   chan struct{}
	renewals renewals
	running  sync.WaitGroup

	mu       sync.Mutex
	draining bool
	// inFlight counts the attempts, and perAccount those of them that requests
	// of an account make.
	inFlight   int
	perAccount map[string]int

	aborted context.Context //nolint:containedctx // the life of the attempts, which outlive their callers
	abort   context.CancelFunc
}

type flowID struct {
	name    string
	version int
}

// NewEngine returns an engine. Attempts that outlive their callers have the
// values of ctx. They don't end when ctx ends, but when Shutdown is called.
func NewEngine(ctx context.Context, config Config) (*Engine, error) {
	if config.FindTimeout == 0 {
		config.FindTimeout = DefaultFindTimeout
	}
	if config.Window == 0 {
		config.Window = DefaultWindow
	}
	if config.Memory == 0 {
		config.Memory = defaultMemory
	}
	if config.MaxInFlight == 0 {
		config.MaxInFlight = 10_000
	}
	if config.MaxPerAccount == 0 {
		config.MaxPerAccount = 1_000
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Unconfirmed == nil {
		config.Unconfirmed = func(*pgx.Conn) bool { return false }
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	e := &Engine{
		config:     config,
		flows:      map[flowID]Flow{},
		log:        config.Logger,
		metrics:    newMetrics(config.Metrics),
		prepares:   config.Pool.Config().ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement,
		keys:       keyTable{keys: map[keyID]*keyState{}},
		perAccount: map[string]int{},
		door:       newDoor(),
		places:     make(chan struct{}, max(1, config.Pool.Stat().MaxConns()/2)),
	}
	for _, flow := range config.Flows {
		e.flows[flowID{flow.name, flow.version}] = flow
	}
	e.gathering.engine, e.gathering.patience, e.gathering.queues = e, defaultPatience, map[string]*queue{}
	e.renewals.engine, e.renewals.calls = e, map[string]*heldCall{}
	aborted, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	e.aborted, e.abort = aborted, func() { abort(ErrAborted) }
	return e, nil
}

// flow returns the flow of a key, and false if this process doesn't know it or
// the key's realm.
func (e *Engine) flow(name string, version int, realm string) (Flow, bool) {
	flow, ok := e.flows[flowID{name, version}]
	return flow, ok && realm == e.config.Realm()
}

// enter makes room for an attempt, before anything is claimed. Of the attempts
// of this process that would claim one key, one enters. It returns the
// attempt's context, which doesn't end when the caller's does: the client does
// not own the request, and a context that ends during COMMIT makes a doubt.
// Only Shutdown ends it. leave gives the room back.
//
// The realm is read once, because it may become known at any moment: a new key
// that was stored without one would be nobody's.
func (e *Engine) enter(caller context.Context, a *attempt) (ctx context.Context, leave func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	realm := e.config.Realm()
	switch {
	case e.draining:
		return nil, nil, ErrDraining
	case slices.Contains(e.config.Paused, a.flow.name), realm == "":
		return nil, nil, ErrPaused
	case a.entry == entryInsert:
		a.realm = realm
	case a.realm != realm:
		return nil, nil, ErrUnknownVersion
	}
	id := a.id()
	if !e.keys.begin(id, a.entry == entryInsert) {
		return nil, nil, inUse(e.config.Lease, e.config.Lease, 0)
	}
	a.claiming = true
	if err := e.admit(a); err != nil {
		a.claimed()
		e.keys.end(id)
		return nil, nil, err
	}
	values := caller
	if caller.Done() != nil { // mostly it has no end
		values = context.WithoutCancel(caller)
	}
	return attemptContext{a.traced(values), e.aborted}, func() {
		a.claimed()
		e.keys.end(id)
		e.discharge(a)
	}, nil
}

// An attemptContext has the values of one context, which must have no end, and
// the end of another one. Package context has none that does so without several
// allocations.
type attemptContext struct {
	context.Context //nolint:containedctx // it is one itself

	aborted context.Context //nolint:containedctx // likewise
}

// Done implements context.Context.
func (c attemptContext) Done() <-chan struct{} { return c.aborted.Done() }

// Err implements context.Context.
func (c attemptContext) Err() error { return c.aborted.Err() }

// Value implements context.Context. Package context looks here for the cause.
func (c attemptContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.aborted.Value(key)
}

// admit counts an attempt in, or returns ErrBusy. The caller has locked e.mu.
// The completer's attempts don't count for their accounts:
// Completer.Concurrency bounds them, and it would find a busy account's keys
// due again and again.
func (e *Engine) admit(a *attempt) error {
	account := a.key.Account
	switch {
	case e.inFlight == e.config.MaxInFlight:
		e.metrics.busy.WithLabelValues(limitProcess).Inc()
		return ErrBusy
	case a.request == nil:
	case e.perAccount[account] == e.config.MaxPerAccount:
		e.metrics.busy.WithLabelValues(limitAccount).Inc()
		return fmt.Errorf("%w for one account", ErrBusy)
	default:
		e.perAccount[account]++
	}
	e.inFlight++
	e.metrics.inFlight.Inc()
	e.running.Add(1)
	return nil
}

// discharge counts an attempt out.
func (e *Engine) discharge(a *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if account := a.key.Account; a.request != nil {
		e.perAccount[account]--
		if e.perAccount[account] == 0 {
			delete(e.perAccount, account)
		}
	}
	e.inFlight--
	e.metrics.inFlight.Dec()
	e.running.Done()
}

// Drain makes the engine refuse every new claim with ErrDraining. Keys that are
// finished are still answered.
func (e *Engine) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = true
}

// Shutdown drains, waits for the attempts in flight until ctx ends, and then
// ends those that are left. These release their keys, due at once, so that
// another process goes on with them. Shutdown returns their number.
func (e *Engine) Shutdown(ctx context.Context) int {
	e.Drain()
	done := make(chan struct{})
	go func() { e.running.Wait(); close(done) }()
	select {
	case <-done:
		return 0
	case <-ctx.Done():
	}
	e.mu.Lock()
	left := e.inFlight
	e.mu.Unlock()
	e.abort()
	select {
	case <-done:
	case <-time.After(releaseTimeout):
	}
	return left
}

// acquire returns a connection from the pool, for one round trip or one
// transaction.
func (e *Engine) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	conn, err := e.config.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: taking a connection: %w: %w", ErrUnavailable, errUnsent, err)
	}
	return conn, nil
}

// barrier commits a write and waits for its acknowledgement: what was committed
// before it is then durable, on the standby too. It writes a new row each time,
// since a second run that finds its row in place commits nothing.
func (e *Engine) barrier(ctx context.Context, account, key string) error {
	start := time.Now()
	for try := 1; ; try++ {
		err := e.exec(ctx, auditRecord(account, "key.barrier", map[string]string{"key": key}))
		if err == nil {
			return nil
		}
		if time.Since(start) > doubtPatience || backOff(ctx, try) != nil {
			return fmt.Errorf("writing barrier: %w", unavailable(err))
		}
	}
}

// exec runs one statement in a commit of its own.
func (e *Engine) exec(ctx context.Context, s statement) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
		return err
	}
	if e.config.Unconfirmed(conn.Conn()) {
		return errUnconfirmed
	}
	return nil
}
