package crash

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/proof/tripwire"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// A message is a message on a wire, as a run recorded it.
type message struct {
	wire    string
	n       int
	process string
	summary string
	frames  int // of the message
	answer  int // frames of its answer; 0 if the answer never came as a whole
}

// A reply is what a client was answered, between two moments of the run.
type reply struct {
	from, to int
	status   int
	code     string
	replayed bool
	passes   bool // it has a Retry-After
	body     string
	headers  string
}

// A run is a trial while it runs, and what it recorded.
type run struct {
	lane    *lane
	trial   trial
	flow    flow
	script  script
	fake    *fakestripe.Server
	account accounts.Credentials
	key     string // the idempotency key
	ride    string // the id of the ride that there was before the request
	event   string // the id of Stripe's event, as a snapshot event
	beside  http.Handler

	mu      sync.Mutex
	changed sync.Cond
	calm    bool // no more faults
	stuck   bool
	counts  map[string]int
	log     []message
	struck  []int // for each fault: the index of its message in log, or -1
	running int
	asleep  []chan struct{} // the workers that are held, in the order in which they fell asleep
	// heldOpen counts the workers that were held in a transaction, and idledOut
	// the sessions that Postgres ended because they idled in one.
	heldOpen, idledOut int
	active             map[*process]int
	moment             int
	replies            []reply
	notes              []note // what was checked while it ran

	snapshots []snapshot
	atRest    snapshot // when the request had come to rest, before a person resolved it
	closedAt  int      // how many charges had been sent to Stripe when the window closed; -1 if it did not close
}

// A note is the result of a check of an invariant while a trial runs: the
// violation, or "".
type note struct{ invariant, violation string }

func newRunOf(l *lane, t trial, f flow, s script, fake *fakestripe.Server, account accounts.Credentials) *run {
	r := &run{
		lane: l, trial: t, flow: f, script: s, fake: fake, account: account, key: idempotencyKey, counts: map[string]int{},
		active: map[*process]int{}, closedAt: -1,
	}
	r.changed.L = &r.mu
	if f.beside != nil {
		r.beside = f.beside()
	}
	for range t.faults {
		r.struck = append(r.struck, -1)
	}
	return r
}

// onMessage records a message and returns the fault that strikes it.
func (r *run) onMessage(p *process, name, summary string, frames int) wire.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calm || p == r.lane.calm {
		return wire.Fault{}
	}
	r.counts[name]++
	at := len(r.log)
	r.log = append(r.log, message{wire: name, n: r.counts[name], process: p.name, summary: summary, frames: frames})
	fault := wire.Fault{Answered: func(frames int) { r.answered(at, frames) }}
	for i, f := range r.trial.faults {
		if r.struck[i] < 0 && f.wire == name && f.n == r.counts[name] {
			r.struck[i] = at
			fault.Kind, fault.Part, fault.Hold = f.kind, f.part, func() { r.hold(p, name) }
		}
	}
	return fault
}

// answered records the frames of the answer to a message.
func (r *run) answered(at, frames int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log[at].answer = frames
}

// hold puts a worker to sleep until wakeUp wakes it. The worker is one of
// process p, with a message on the wire that is named.
func (r *run) hold(p *process, name string) {
	wake := make(chan struct{})
	open := name == pgWire && p.pg.Open() > 0
	r.mu.Lock()
	if open {
		r.heldOpen++
	}
	r.asleep = append(r.asleep, wake)
	r.changed.Broadcast()
	r.mu.Unlock()
	<-wake
}

// begin runs do as a worker of a process.
func (r *run) begin(p *process, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running++
	r.active[p]++
	go func() {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.running--
			r.active[p]--
			r.changed.Broadcast()
		}()
		do()
	}()
}

// patience is how long a step of a run may take. No step waits for long.
const patience = time.Minute

// settle returns when every worker has ended or is held.
func (r *run) settle() {
	timer := time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stuck = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.running > len(r.asleep) && !r.stuck {
		r.changed.Wait()
	}
}

// wakeUp wakes the worker that fell asleep first, and settles.
func (r *run) wakeUp() {
	r.mu.Lock()
	close(r.asleep[0])
	r.asleep = r.asleep[1:]
	r.mu.Unlock()
	r.settle()
}

// sleepers returns how many workers are held.
func (r *run) sleepers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asleep)
}

// now returns a new moment, later than all before.
func (r *run) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	return r.moment
}

// idledOut is the SQLSTATE of idle_in_transaction_session_timeout.
const idledOut = "25P03"

// heardError records an error that Postgres sent to a process.
func (r *run) heardError(p *process, code string) {
	if code != idledOut {
		// A refused change leaves no trace in the database, so it is noted
		// here.
		r.note(tripwire.Invariant(code), p.name+" was stopped by tripwire "+code)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idledOut++
}

// note records the result of a check.
func (r *run) note(invariant, fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, note{invariant, fault})
}

// client returns what a client does: it sends the request to a process, and the
// run records the reply.
func (r *run) client(ctx context.Context, p *process) func() {
	return func() {
		from := r.now()
		got := r.send(p, r.request(ctx, r.account, r.flow.body))
		got.from, got.to = from, r.now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.replies = append(r.replies, got)
	}
}

// request returns a client's request with a body.
func (r *run) request(ctx context.Context, account accounts.Credentials, body string) *http.Request {
	if r.flow.event {
		return r.delivery(ctx, "snapshot")
	}
	return post(ctx, r.flow.path(r), idempotencyKey, account, body)
}

// send returns the answer of a process to a request.
func (r *run) send(p *process, request *http.Request) reply {
	recorder := httptest.NewRecorder()
	p.handler.ServeHTTP(recorder, request)
	h := recorder.Header()
	return reply{
		status: recorder.Code, body: recorder.Body.String(), code: problemCode(recorder.Body.Bytes()),
		replayed: h.Get("Idempotent-Replayed") == "true", passes: h.Get("Retry-After") != "",
		headers: fmt.Sprint(h.Values("Content-Type"), h.Values("Location"), h.Values("Idempotency-Key")),
	}
}

// complete returns one round of the completer. Its error is ignored, because
// faults cause errors. The checks look at what it left behind.
func (r *run) complete(ctx context.Context, p *process) func() {
	return func() {
		if r.flow.event {
			_, _ = p.eventWorker().Once(ctx)
		}
		_, _ = p.completer().Once(ctx)
	}
}
