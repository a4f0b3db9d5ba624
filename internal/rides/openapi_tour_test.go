package rides

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A tour brings about every answer that the OpenAPI document promises.
type tour struct {
	*harness

	mu        sync.Mutex
	exchanges []apitest.Exchange
	callbacks []received
	// examples are bodies by the names that the document's examples have.
	examples map[string]string
	slow     string // an answer to a body that didn't come
}

// received is a callback as its receiver got it.
type received struct {
	header http.Header
	body   []byte
}

// takeTour takes the whole tour. The database is of no use afterwards.
func takeTour(t *testing.T) *tour {
	t.Helper()
	tr := &tour{harness: newHarness(t), examples: map[string]string{}}
	tr.process = tr.fresh(t, nil)
	var slow sync.WaitGroup
	slow.Go(func() { tr.timeouts(t) })
	tr.hails(t)
	tr.declines(t)
	tr.reads(t)
	tr.waits(t)
	tr.cancels(t)
	tr.refusals(t)
	tr.trouble(t)
	tr.events(t)
	tr.reference(t)
	slow.Wait()
	tr.keep("request_timeout", tr.slow)
	tr.bugs(t)
	return tr
}

// fresh returns a process that remembers nothing, allows callbacks to loopback,
// has a limit of requests, and is changed by change.
func (tr *tour) fresh(t *testing.T, change func(*Config)) *process {
	t.Helper()
	p := tr.startProcess(t, nil)
	p.config.RateLimit = limit.Rate{PerSecond: 1000, Burst: 1000}
	p.config.Callbacks = callbacks.NewGuard(netip.MustParsePrefix("127.0.0.0/8"))
	if change != nil {
		change(&p.config)
	}
	p.service = NewService(p.config)
	p = p.serving(t, p.service.Handler())
	p.record = func(e apitest.Exchange) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.exchanges = append(tr.exchanges, e)
	}
	return p
}

// with adds to a call the headers that every route takes.
func with(c call) call {
	c.header = maps.Clone(c.header)
	if c.header == nil {
		c.header = http.Header{}
	}
	c.header.Set("X-Traceability-Id", "order-1001")
	c.header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	return c
}

// see makes a call, and keeps its answer as an example if it has a name.
func (tr *tour) see(t *testing.T, p *process, name string, c call, status int, code web.Code) reply {
	t.Helper()
	r := p.send(t, with(c)).must(t, status, code)
	tr.keep(name, r.body)
	return r
}

func (tr *tour) keep(name, body string) {
	if name != "" {
		tr.examples[name] = body
	}
}

func (tr *tour) hails(t *testing.T) {
	t.Helper()
	tr.keep("ride_request", aRide)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		tr.callbacks = append(tr.callbacks, received{header: r.Header, body: body})
	}))
	t.Cleanup(receiver.Close)
	c := tr.hailCall("order-1001", "")
	c.body = strings.TrimSuffix(aRide, "}") + `,"callback_url":"` + receiver.URL + `/hook"}`
	tr.see(t, tr.process, "ride_charged", c, 201, "")
	tr.see(t, tr.process, "", c, 201, "") // a replay
	tr.see(t, tr.process, "", tr.hailCall("order-1002", "respond-async, wait=30"), 201, "")
	reached, release := tr.holdCharge(t)
	tr.see(t, tr.process, "ride_pending", tr.hailCall("order-1003", "respond-async"), 202, "")
	reached()
	tr.see(t, tr.process, "idempotency_key_in_use", tr.hailCall("order-1003", ""), 409, web.CodeIdempotencyKeyInUse)
	tr.see(t, tr.process, "ride_not_cancelable_now", tr.cancelCall("order-1003", "cancel-1003"), 409, web.CodeRideNotCancelable)
	tr.see(t, tr.process, "", tr.hailCall("order-1003", "wait=1"), 409, web.CodeIdempotencyKeyInUse)
	tr.see(t, tr.process, "", tr.getCall("order-1003", "wait=1"), 200, "")
	following := make(chan string)
	go func() { following <- tr.stream(t, "order-1003") }()
	tr.waiting(t, 1)
	release()
	tr.keep("ride_stream", <-following)
	tr.deliverCallbacks(t)
}

func (tr *tour) cancelCall(ride, key string) call {
	return call{method: "POST", path: ridePath(rideID(tr.visa.AccountID, ride)) + "/cancel", key: key, as: tr.visa}
}

// stream follows a ride to the end of its stream.
func (tr *tour) stream(t *testing.T, key string) string {
	t.Helper()
	c := with(tr.getCall(key, ""))
	c.header.Set("Accept", "text/event-stream")
	response, err := tr.roundTrip(t, tr.newRequest(t.Context(), t, c))
	if err != nil {
		t.Error(err)
		return ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.Body.Close() != nil {
		t.Error(err)
	}
	return string(body)
}

// deliverCallbacks delivers the callback of the first ride.
func (tr *tour) deliverCallbacks(t *testing.T) {
	t.Helper()
	client, err := jobs.NewClient(jobs.Config{
		Pool: tr.pool, Poll: 20 * time.Millisecond, Timeout: 5 * time.Second, Concurrency: 1, CallbackConcurrency: 1, Drain: time.Second,
		Callbacks: tr.config.Callbacks, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(tr.callbacks) != 1 {
		t.Fatalf("%d callbacks arrived", len(tr.callbacks))
	}
	tr.keep("callback_charged", string(tr.callbacks[0].body))
}

func (tr *tour) declines(t *testing.T) {
	t.Helper()
	c := tr.hailCall("order-2001", "respond-async, wait=30")
	c.as = tr.declined
	tr.see(t, tr.process, "card_declined", c, 402, web.CodeCardDeclined)
	tr.see(t, tr.process, "", c, 402, web.CodeCardDeclined) // a replay
	for name, method := range map[string]string{"authentication_required": "pm_card_authenticationRequired", "payment_failed": "pm_gone"} {
		tr.exec(t, `UPDATE accounts SET payment_method = $2 WHERE id = $1`, tr.second.AccountID, method)
		c := tr.hailCall(name, "")
		c.as = tr.second
		tr.see(t, tr.fresh(t, nil), name, c, 402, web.Code(name))
	}
}

func (tr *tour) reads(t *testing.T) {
	t.Helper()
	read := func(name string, as accounts.Credentials, key string) {
		tr.see(t, tr.process, name, call{method: "GET", path: ridePath(rideID(as.AccountID, key)), as: as}, 200, "")
	}
	read("ride_declined", tr.declined, "order-2001")
	tr.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	tr.see(t, tr.process, "payment_processor_unavailable", tr.hailCall("order-3001", ""), 503, web.CodePaymentProcessorUnavailable)
	if err := (phases.Keys{Pool: tr.pool}).Park(t.Context(), tr.key(t, tr.visa, "order-3001"), "ann"); err != nil {
		t.Fatal(err)
	}
	tr.see(t, tr.process, "payment_under_review", tr.hailCall("order-3001", ""), 409, web.CodePaymentUnderReview)
	read("ride_under_review", tr.visa, "order-3001")
	tr.see(t, tr.process, "ride_list", call{method: "GET", path: "/v1/rides?limit=1&idempotency_key=order-1001", as: tr.visa}, 200, "")
	after := rideID(tr.visa.AccountID, "order-1002")
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/rides?limit=1&starting_after=" + after, as: tr.visa}, 200, "")
}

// waits makes requests whose key is in use until it ends, or is released.
func (tr *tour) waits(t *testing.T) {
	t.Helper()
	reached, release := tr.holdCharge(t)
	tr.see(t, tr.process, "", tr.hailCall("order-4001", "respond-async"), 202, "")
	reached()
	waiting := tr.inBackground(t, with(tr.hailCall("order-4001", "wait=30")))
	tr.waiting(t, 1)
	tr.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	tr.exec(t, `UPDATE idempotency_keys SET leased_until = now() - interval '1 second' WHERE key = 'order-4001'`)
	waiting().must(t, 503, web.CodePaymentProcessorUnavailable)
	release()
}

func (tr *tour) cancels(t *testing.T) {
	t.Helper()
	tr.see(t, tr.process, "ride_canceled", tr.cancelCall("order-1001", "cancel-1001"), 200, "")
	replay := tr.cancelCall("order-1001", "cancel-1001")
	replay.body = "{}" // is as good as none
	tr.see(t, tr.process, "", replay, 200, "")
	tr.see(t, tr.process, "ride_not_cancelable", tr.cancelCall("order-1001", "again-1001"), 409, web.CodeRideNotCancelable)
	tr.see(t, tr.process, "", tr.cancelCall("order-1001", "again-1001"), 409, web.CodeRideNotCancelable) // a replay
	unknown := tr.cancelCall("order-1001", "cancel-none")
	unknown.path = "/v1/rides/ride_none/cancel"
	tr.see(t, tr.process, "", unknown, 404, web.CodeNotFound)

	// One waits in vain, and one until all is back.
	gate := make(chan struct{})
	tr.onRefund(fakestripe.Delayed, func(f *fakestripe.Fault) { f.HoldBefore = gate })
	before := len(tr.fake.Ledger())
	first := tr.inBackground(t, with(tr.cancelCall("order-1002", "cancel-1002")))
	tr.mustReach(t, before)
	waiting := tr.cancelCall("order-1002", "cancel-1002")
	waiting.header = prefer("wait=1")
	tr.see(t, tr.process, "", waiting, 409, web.CodeIdempotencyKeyInUse)
	waiting.header = prefer("wait=30")
	second := tr.inBackground(t, with(waiting))
	tr.waiting(t, 1)
	close(gate)
	first().must(t, 200, "")
	second().must(t, 200, "")
	tr.pendingRefund(t)
}

// mustReach waits until Stripe gets a refund.
func (tr *tour) mustReach(t *testing.T, before int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	posts := 0
	for _, send := range tr.fake.Ledger()[:before] {
		if send.Path == "/v1/refunds" {
			posts++
		}
	}
	if err := tr.fake.WaitSends(ctx, posts+1, func(s fakestripe.Send) bool { return s.Path == "/v1/refunds" && s.Method == http.MethodPost }); err != nil {
		t.Fatal(err)
	}
}

// pendingRefund cancels a ride whose refund Stripe holds, with a client that
// waits for the one before it.
func (tr *tour) pendingRefund(t *testing.T) {
	t.Helper()
	gate := make(chan struct{})
	tr.onRefund(fakestripe.RefundOutcome, func(f *fakestripe.Fault) { f.Refund, f.HoldBefore = "pending", gate })
	before := len(tr.fake.Ledger())
	first := tr.inBackground(t, with(tr.cancelCall("order-1003", "cancel-1003")))
	tr.mustReach(t, before)
	waiting := tr.cancelCall("order-1003", "cancel-1003")
	waiting.header = prefer("wait=30")
	second := tr.inBackground(t, with(waiting))
	tr.waiting(t, 1)
	close(gate)
	r := first().must(t, 202, "")
	tr.keep("ride_refund_pending", r.body)
	second().must(t, 202, "")
}
