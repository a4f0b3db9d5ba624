package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides"
	"github.com/rocketrides/rocketrides/proof/wire"
)

const (
	lease       = 20 * time.Second
	callTimeout = 10 * time.Second
	// connections is the size of a process's pool: one more than the process
	// ever uses at once, with those of held workers.
	connections = 4
)

// A process is an api or a completer, with everything that a real process has
// for itself. It serves one trial after another, and begins anew for each:
// without an open connection, and with an account that it has never seen.
type process struct {
	*program // of the trial's mode

	name       string
	lane       *lane
	pool       *pgxpool.Pool
	pg         *wire.Postgres
	stripeWire *wire.HTTP
	transport  *http.Transport
	programs   map[string]*program // by mode
}

// A program is the code that runs in a process.
type program struct {
	stripe  *payments.Stripe
	engine  *phases.Engine
	handler http.Handler
}

// newProcess returns a process of a lane, whose database is at url.
func newProcess(t *testing.T, l *lane, name, url string) *process {
	t.Helper()
	p := &process{name: name, lane: l, pg: wire.NewPostgres(), stripeWire: wire.NewHTTP(), programs: map[string]*program{}}
	kept := &sessions{heardError: func(code string) {
		if r := l.current.Load(); r != nil {
			r.heardError(p, code)
		}
	}}
	p.pg.Base = kept.dial
	t.Cleanup(kept.close)
	p.pool = pgtest.Open(t, postgres.Options{
		URL: url, MaxConns: connections, ApplicationName: "crash-" + name, DialFunc: p.dialPostgres,
	})
	p.pg.Plan(func(_ int, message []byte) wire.Fault {
		return l.onMessage(p, pgWire, p.pg.Summary(message), p.pg.Frames(message))
	})
	p.stripeWire.Plan(func(_ int, message []byte) wire.Fault {
		return l.onMessage(p, stripeWire, p.stripeWire.Summary(message), p.stripeWire.Frames(message))
	})
	p.transport = &http.Transport{DialContext: p.dialStripe, ResponseHeaderTimeout: callTimeout, MaxIdleConnsPerHost: connections}
	t.Cleanup(p.transport.CloseIdleConnections)
	for _, mode := range modes {
		p.programs[mode] = newProgram(t, p, mode == "stepwise")
	}
	return p
}

// newStripe returns a Stripe client that has not seen any answer.
func (p *process) newStripe() (*payments.Stripe, error) {
	return payments.NewStripe(payments.Config{
		Key: "sk_test_crash", URL: p.lane.server.URL, Timeout: callTimeout, Saved500After: time.Hour,
		RefusedPause: time.Millisecond, Transport: p.transport,
	})
}

// newProgram returns the program of a process in one mode.
func newProgram(t *testing.T, p *process, stepwise bool) *program {
	t.Helper()
	stripe, err := p.newStripe()
	if err != nil {
		t.Fatal(err)
	}
	service := p.lane.flow.service(p, stripe)
	engine, err := phases.NewEngine(t.Context(), phases.Config{
		Pool: p.pool, Flows: service.flows, Realm: stripe.Realm, Lease: lease, CallTimeout: callTimeout,
		Memory:      -1, // messages are counted, and an answer from memory depends on time
		Backoff:     phases.Backoff{Initial: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		MaxAttempts: 3, Stepwise: stepwise, Unconfirmed: postgres.TookDoubtfulCommit, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if left := engine.Shutdown(ctx); left > 0 {
			t.Errorf("%s had %d attempts left", p.name, left)
		}
	})
	return &program{stripe: stripe, engine: engine, handler: service.handler(engine)}
}

// start makes the process begin anew for a trial.
func (p *process) start(mode string) error {
	if p != p.lane.calm {
		p.pool.Reset()
	}
	p.transport.CloseIdleConnections()
	p.program = p.programs[mode]
	// After Stripe refused the API key, its client lets one request through at
	// a time, until one is answered. If an earlier trial ended like that, a
	// second worker of this one would be refused while the first is held.
	fresh, err := p.newStripe()
	if err != nil {
		return err
	}
	*p.stripe = *fresh
	return nil
}

// wait returns when nothing that the process has sent is still on its way.
func (p *process) wait() {
	p.pg.Wait()
	p.stripeWire.Wait()
}

// completer returns a completer that runs in the process.
func (p *process) completer() *phases.Completer {
	return &phases.Completer{
		Engine: p.engine, Poll: time.Millisecond, Concurrency: 4, Retention: 72 * time.Hour, Tombstones: 30 * 24 * time.Hour,
	}
}

// eventWorker returns a worker of events that runs in the process.
func (p *process) eventWorker() *rides.EventWorker {
	return &rides.EventWorker{
		Pool: p.pool, Engine: p.engine, Stripe: p.stripe, Realm: p.stripe.Realm, Poll: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
}

var errRefused = errors.New("connection refused by the trial")

// connecting is the summary of the opening of a connection.
const connecting = "connect"

// dialStripe connects to Stripe. That counts as a message.
func (p *process) dialStripe(ctx context.Context, network, address string) (net.Conn, error) {
	if err := p.connect(stripeWire); err != nil {
		return nil, err
	}
	return p.stripeWire.Dial(ctx, network, address)
}

// connect lets the fault strike that is planned for the opening of a
// connection.
func (p *process) connect(name string) error {
	switch fault := p.lane.onMessage(p, name, connecting, 1); fault.Kind {
	case wire.Pass:
	case wire.HoldBefore:
		fault.Hold()
	default:
		return errRefused
	}
	return nil
}

// dialPostgres connects to Postgres. The start-up message counts as the opening
// of the connection, and not the dialling: pgx also dials in the background to
// send cancel requests, which a cut network does not carry.
func (p *process) dialPostgres(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.pg.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &startup{Conn: conn, process: p}, nil
}

// A startup is a connection whose start-up message is counted.
type startup struct {
	net.Conn
	process *process
	first   sync.Once
}

// Write sends b, unless it is the start-up message and a fault strikes it.
func (g *startup) Write(b []byte) (int, error) {
	const version3 = 3 << 16
	var err error
	g.first.Do(func() {
		if len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) == version3 {
			err = g.process.connect(pgWire)
		}
	})
	if err != nil {
		return 0, errors.Join(err, g.Close())
	}
	return g.Conn.Write(b)
}
