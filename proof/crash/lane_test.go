package crash

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/tripwire"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// A lane runs one trial after another: a database with tripwires, the
// processes, and an address at which each trial has a Stripe of its own.
type lane struct {
	pool     *pgxpool.Pool // the trial's own eyes, never cut
	server   *httptest.Server
	api      [2]*process
	worker   *process
	calm     *process             // which no fault befalls: what is asked when all is over is asked here
	stranger accounts.Credentials // another account
	current  atomic.Pointer[run]
}

// idleInTransaction is how long a session may sleep in a transaction until
// Postgres ends it and frees its locks: 30 seconds in production, shorter here,
// where others wait for the locks of a worker that is held.
const idleInTransaction = "400ms"

func newLane(t *testing.T, f flow) *lane {
	t.Helper()
	url := pgtest.URL(t)
	l := &lane{pool: pgtest.Open(t, postgres.Options{URL: url, MaxConns: 2})}
	if err := tripwire.Install(t.Context(), l.pool, f.points...); err != nil {
		t.Fatal(err)
	}
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	cut := url + "&idle_in_transaction_session_timeout=" + idleInTransaction
	l.api = [2]*process{newProcess(t, l, "api1", cut), newProcess(t, l, "api2", cut)}
	l.worker, l.calm = newProcess(t, l, "completer", cut), newProcess(t, l, "calm", url)
	var err error
	if l.stranger, err = l.account(t.Context(), script{}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lane) account(ctx context.Context, s script) (accounts.Credentials, error) {
	account := accounts.NewAccount{Email: "rider@example.com", StripeCustomer: "cus_visa", PaymentMethod: s.card}
	if s.card == "" {
		account.PaymentMethod = "pm_card_visa"
	}
	return accounts.Store{Pool: l.pool}.Create(ctx, account)
}

func (l *lane) processes() []*process { return []*process{l.api[0], l.api[1], l.worker, l.calm} }

// meet decides what happens to a message of one of the processes.
func (l *lane) meet(p *process, name, summary string, frames int) wire.Fault {
	r := l.current.Load()
	if r == nil {
		return wire.Fault{}
	}
	if name == stripeWire {
		r.checkNoTransaction(p)
	}
	return r.meet(p, name, summary, frames)
}

// ServeHTTP is Stripe. What arrives is checked against the database before the
// fake sees it.
func (l *lane) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r := l.current.Load()
	body, err := io.ReadAll(request.Body)
	if request.Method == http.MethodPost {
		r.checkIntent(request, string(body), err == nil)
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		request.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
	}
	r.fake.ServeHTTP(w, request)
}

// broken is the end of a body that did not arrive whole.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// newRun makes the world of one trial.
func (l *lane) newRun(ctx context.Context, t trial) (*run, error) {
	f, _ := flowNamed(t.flow)
	s, _ := f.script(t.script)
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		return nil, err
	}
	fake.Script(s.faults()...)
	who, err := l.account(ctx, s)
	if err != nil {
		return nil, err
	}
	l.current.Store(nil)
	for _, p := range l.processes() {
		if err := p.start(t.mode); err != nil {
			return nil, err
		}
	}
	r := newRunOf(l, t, f, s, fake, who)
	l.current.Store(r)
	return r, nil
}
