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

// A message is one that a run has seen.
type message struct {
	wire    string
	n       int
	process string
	summary string
	frames  int // of the message
	answer  int // of its answer; 0 if that never came as a whole
}

// A reply is what a client got, and when: between two moments of the run.
type reply struct {
	from, to int
	status   int
	code     string
	replayed bool
	body     string
	headers  string
}

// terminal tells that a reply is for ever.
func (r reply) terminal() bool { return r.status < 300 || r.status == http.StatusPaymentRequired }

// A run is one trial on its way.
type run struct {
	lane   *lane
	trial  trial
	flow   flow
	script script
	fake   *fakestripe.Server
	who    accounts.Credentials

	mu      sync.Mutex
	changed sync.Cond
	calm    bool // no more faults
	stuck   bool
	counts  map[string]int
	log     []message
	struck  []int // by fault: the index of its message in log, or -1
	running int
	asleep  []chan struct{} // those that are held, in the order in which they fell asleep
	// heldOpen counts those that were held in a transaction, and idledOut the
	// sessions that Postgres ended because they idled in one.
	heldOpen, idledOut int
	active             map[*process]int
	moment             int
	replies            []reply
	notes              []note // what was seen on the way

	snapshots []snapshot
	atRest    snapshot // when the request had come to rest, before anybody decided
	closedAt  int      // how many charges Stripe had been asked for when the window closed; -1 if it didn't
}

// A note is an invariant that was looked at on the way, and what was wrong.
type note struct{ invariant, fault string }

func newRunOf(l *lane, t trial, f flow, s script, fake *fakestripe.Server, who accounts.Credentials) *run {
	r := &run{
		lane: l, trial: t, flow: f, script: s, fake: fake, who: who, counts: map[string]int{},
		active: map[*process]int{}, closedAt: -1,
	}
	r.changed.L = &r.mu
	for range t.faults {
		r.struck = append(r.struck, -1)
	}
	return r
}

// meet counts a message and decides what happens to it.
func (r *run) meet(p *process, name, summary string, frames int) wire.Fault {
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

func (r *run) answered(at, frames int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log[at].answer = frames
}

// hold puts a worker of a process, at a message of a wire, to sleep until the
// run wakes it.
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

// begin lets a process do something.
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

// patience is how long a step of a run may take; nothing in it waits for long.
const patience = time.Minute

// settle returns when all that runs is held.
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

// wakeUp lets the first that fell asleep go on, and waits for its end.
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

func (r *run) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	return r.moment
}

// idledOut is the SQLSTATE of idle_in_transaction_session_timeout.
const idledOut = "25P03"

// heardError notes an error that a process heard from Postgres.
func (r *run) heardError(p *process, code string) {
	if code != idledOut {
		// Postgres undoes what a tripwire refuses, and the log with it.
		r.note(tripwire.Invariant(code), p.name+" was stopped by tripwire "+code)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idledOut++
}

func (r *run) note(invariant, fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, note{invariant, fault})
}

// client is a client that sends the request to a process.
func (r *run) client(ctx context.Context, p *process) func() {
	return func() {
		from := r.now()
		got := r.send(p, r.flow.request(ctx, r.who, r.flow.body))
		got.from, got.to = from, r.now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.replies = append(r.replies, got)
	}
}

// send lets a process answer a request.
func (r *run) send(p *process, request *http.Request) reply {
	recorder := httptest.NewRecorder()
	p.handler.ServeHTTP(recorder, request)
	h := recorder.Header()
	return reply{
		status: recorder.Code, body: recorder.Body.String(), code: problemCode(recorder.Body.Bytes()),
		replayed: h.Get("Idempotent-Replayed") == "true",
		headers:  fmt.Sprint(h.Values("Content-Type"), h.Values("Location"), h.Values("Idempotency-Key")),
	}
}

// complete is one round of the completer. That it meets faults is what it is
// here for; what it left behind is looked at.
func (r *run) complete(ctx context.Context, p *process) func() {
	return func() { _, _ = p.completer().Once(ctx) }
}
