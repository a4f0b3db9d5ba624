package payments

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	stripe "github.com/stripe/stripe-go/v76"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// The kinds of requests. They are labels of the metrics, and each has a result
// table of its own.
const (
	callCharge   = "charge"         // POST /v1/payment_intents
	callRead     = "read"           // GET  /v1/payment_intents/{id}
	callList     = "list"           // GET  /v1/payment_intents
	callCancel   = "cancel"         // POST /v1/payment_intents/{id}/cancel
	callRefund   = "refund"         // POST /v1/refunds
	callRefunds  = "refunds"        // GET  /v1/refunds
	callDisputes = "disputes"       // GET  /v1/disputes
	callCustomer = "customer"       // GET /v1/customers/{id}
	callMethod   = "payment_method" // GET /v1/payment_methods/{id}
	callAccount  = "account"        // GET /v1/account
	callEvent    = "event"          // GET of the object that an event is about
)

// A request is one HTTP request to Stripe.
type request struct {
	call         string
	method, path string
	key          string // the idempotency key, which a POST must have
	form         string // the body of a POST, or the query of a GET, form-encoded
}

// id identifies the request among those that are sent again.
func (r request) id() string { return r.method + " " + r.path + " " + r.key + " " + r.form }

// send makes a request, once, and returns what came of it. It makes none while
// the API key is refused, by Stripe or by us. The object of a 200 is decoded
// into object.
//
// An answer that may be about the API key is followed by the question whether
// Stripe accepts the key at all.
func (s *Stripe) send(ctx context.Context, r request, object any) *observation {
	if reason := s.guard.refused.Load(); reason != nil {
		return &observation{call: r.call, fault: faultPaused, err: *reason}
	}
	closed := s.guard.breaker.State() == gobreaker.StateClosed
	o, err := s.guard.breaker.Execute(func() (*observation, error) {
		o := s.roundTrip(ctx, r, object)
		if o.keyDoubted() {
			o.key = s.askKey(ctx)
		}
		return o, o.keyError()
	})
	switch {
	case errors.Is(err, errKeyRefused):
		s.logRefusedKey(ctx, o)
		o.refusedAgain = s.guard.add(r.id()) && closed
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		o = &observation{fault: faultPaused, err: errKeyRefused}
	}
	o.call = r.call
	return o
}

// roundTrip makes a request, within the configured time-out. It takes from the
// wire whether the request was sent and answered, because stripe-go's errors
// don't say, and from stripe-go what is in the answer's body.
func (s *Stripe) roundTrip(ctx context.Context, r request, object any) *observation {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	seen := new(exchange)
	defer seen.done()
	arrived := time.Now()
	late := s.throttle.wait(ctx, r.call, phases.CallerOf(ctx))
	start := time.Now()
	waited := start.Sub(arrived)
	s.metrics.waited.WithLabelValues(r.call).Observe(waited.Seconds())
	if late != nil {
		s.metrics.late.WithLabelValues(r.call).Inc()
		o := &observation{fault: faultUnsent, err: late}
		s.logRequest(ctx, r, o, waited, 0)
		return o
	}
	err := s.exchange(ctx, r, seen, object)
	took := time.Since(start)
	s.metrics.observeRequest(r.call, took)
	trace.LineOf(ctx).AddForeign(took)
	o := seen.observation(err)
	o.readBody(err)
	if o.refused(http.StatusTooManyRequests) && !o.inUse() {
		s.metrics.limited.WithLabelValues(r.call).Inc()
		s.throttle.slow(r.call)
	}
	s.logRequest(ctx, r, o, waited, took)
	return o
}

// limited returns ctx with the configured time-out, unless it ends before that.
func (s *Stripe) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= s.timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

// readBody says what an answer's body turned out to be, which stripe-go has
// decoded, or has returned as err. For the stack see observeIntent.
func (o *observation) readBody(err error) {
	failure, failed := errors.AsType[*stripe.Error](err)
	switch {
	case o.fault != faultNone:
	case err == nil:
		o.body = bodyObject
	case failed && failure.Type != "":
		o.body = bodyError
		o.apiError = readError(failure)
		if failure.PaymentIntent != nil {
			o.intent = readIntent(failure.PaymentIntent)
		}
	}
}

// exchange sends a request, which seen watches, and decodes the answer into
// object. stripe-go makes the request and decodes; what is between is ours.
// stripe-go's own Call would encode the form once more, and so might send other
// bytes than the frozen ones, and its Do would copy the answer three times.
func (s *Stripe) exchange(ctx context.Context, r request, seen *exchange, object any) error {
	path, body := r.path, r.form
	params := &stripe.Params{Context: seen.watch(ctx)}
	switch {
	case r.method != http.MethodGet:
		params.SetIdempotencyKey(r.key)
	case r.form != "":
		path, body = path+"?"+r.form, ""
	}
	req, err := s.backend.NewRequest(r.method, path, s.key, "application/x-www-form-urlencoded", params)
	if err != nil {
		return err
	}
	// It has no GetBody. Otherwise net/http would send it again on its own when
	// a reused connection breaks. Every send has to be counted by the engine,
	// and bounded by the key's window.
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	answer, content, err := seen.send(s.transport, req, r.key, s.tiers) //nolint:bodyclose // send closes it
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return s.backend.ResponseToError(answer, content)
	}
	if intent, ok := object.(*intentAnswer); ok {
		return intent.decode(content)
	}
	return s.backend.UnmarshalJSONVerbose(answer.StatusCode, content, object)
}

// logRequest logs what came of a request that is part of a client's request, of
// an attempt, of a job or of an event, how long it waited for its turn and how
// long it took. Who runs a command sees what it says.
func (s *Stripe) logRequest(ctx context.Context, r request, o *observation, waited, took time.Duration) {
	if trace.LineOf(ctx) == nil {
		return
	}
	attrs := append(make([]slog.Attr, 0, 10),
		slog.String("call", r.call), slog.Int("status", o.status), slog.Bool("replayed", o.replayed), slog.Float64("seconds", took.Seconds()),
		slog.Float64("waited_seconds", waited.Seconds()))
	for _, attr := range []slog.Attr{
		slog.String("stripe_request", safeWord(o.requestID)), slog.String("intent", safeWord(o.intent.id)), slog.String("code", safeWord(o.apiError.code)),
		slog.String("decline_code", safeWord(o.apiError.declineCode)),
	} {
		if attr.Value.String() != "" {
			attrs = append(attrs, attr)
		}
	}
	level := slog.LevelInfo
	if o.err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("error", o.err))
	}
	// To log takes much of the stack, and that of the caller would grow for
	// good. So it is done on another one.
	panicked := make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		s.log.LogAttrs(ctx, level, "stripe request", attrs...)
	}()
	if value := <-panicked; value != nil {
		panic(value) // it costs the caller one request, and here it would cost the process
	}
}
