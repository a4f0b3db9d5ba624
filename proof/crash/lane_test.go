package crash

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// A lane runs one trial of a flow after another. It has a database with
// tripwires, the processes, and an address at which each trial has its own fake
// Stripe.
type lane struct {
	flow     flow
	pool     *pgxpool.Pool // for the checks; no fault strikes it
	server   *httptest.Server
	api      [2]*process
	worker   *process
	calm     *process             // no fault strikes it; it gets the requests after the faults have stopped
	stranger accounts.Credentials // another account
	current  atomic.Pointer[run]
}

// idleInTransaction is how long a session may idle in a transaction until
// Postgres ends it and frees its locks. In production it is 30 seconds. Here it
// is shorter, because other workers wait for the locks of a worker that is
// held.
const idleInTransaction = "400ms"

func newLane(t *testing.T, f flow) *lane {
	t.Helper()
	url := pgtest.URL(t)
	l := &lane{flow: f, pool: pgtest.Open(t, postgres.Options{URL: url, MaxConns: 2})}
	if _, err := l.pool.Exec(t.Context(), f.schema); err != nil {
		t.Fatal(err)
	}
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	known := f.service(&process{lane: l}, nil).flows
	for _, k := range known {
		if k.Name() == f.name { // later versions come later
			l.flow.points = k.RecoveryPoints()
		}
	}
	if l.flow.points == nil {
		t.Fatalf("the service of %s doesn't have the flow", f.name)
	}
	if err := tripwire.Install(t.Context(), l.pool, known...); err != nil {
		t.Fatal(err)
	}
	cut := url + "&idle_in_transaction_session_timeout=" + idleInTransaction
	l.api = [2]*process{newProcess(t, l, "api1", cut), newProcess(t, l, "api2", cut)}
	l.worker, l.calm = newProcess(t, l, "completer", cut), newProcess(t, l, "calm", url)
	var err error
	if l.stranger, err = l.newAccount(t.Context(), script{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// newAccount makes an account whose card is that of a script.
func (l *lane) newAccount(ctx context.Context, s script) (accounts.Credentials, error) {
	account := accounts.NewAccount{Email: "rider@example.com", StripeCustomer: "cus_visa", PaymentMethod: s.card}
	if s.card == "" {
		account.PaymentMethod = "pm_card_visa"
	}
	return accounts.Store{Pool: l.pool}.Create(ctx, account)
}

func (l *lane) processes() []*process { return []*process{l.api[0], l.api[1], l.worker, l.calm} }

// onMessage returns the fault that strikes a message of a process.
func (l *lane) onMessage(p *process, name, summary string, frames int) wire.Fault {
	r := l.current.Load()
	if r == nil {
		return wire.Fault{}
	}
	if name == stripeWire {
		r.checkNoTransaction(p)
	}
	return r.onMessage(p, name, summary, frames)
}

// ServeHTTP is Stripe. A request that arrives is compared with the database
// before the fake serves it.
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
	if r.beside != nil && strings.HasPrefix(request.URL.Path, "/beside/") {
		r.beside.ServeHTTP(w, request)
		return
	}
	r.fake.ServeHTTP(w, request)
}

// broken is the end of a body that did not arrive as a whole.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// newRun prepares a trial: its fake Stripe, its account, and the processes.
func (l *lane) newRun(ctx context.Context, t trial) (*run, error) {
	f := l.flow
	s, _ := f.script(t.script)
	options := fakestripe.Options{}
	if f.event {
		options.WebhookSecret = eventSecret
	}
	fake, err := fakestripe.Open(options)
	if err != nil {
		return nil, err
	}
	fake.Script(s.faults(f.sent)...)
	account, err := l.newAccount(ctx, s)
	if err != nil {
		return nil, err
	}
	l.current.Store(nil)
	for _, p := range l.processes() {
		if err := p.start(t.mode); err != nil {
			return nil, err
		}
	}
	r := newRunOf(l, t, f, s, fake, account)
	l.current.Store(r)
	if f.prepare != nil {
		err = f.prepare(ctx, r)
	}
	if err == nil && s.before != nil {
		err = s.before(r)
	}
	return r, err
}
