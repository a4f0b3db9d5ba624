package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// stubStripe is the command that stands in for Stripe. It keeps nothing: what
// it answers depends on the request alone, so that a key sent twice is answered
// twice with one charge. It writes to no disk and does as little as it can,
// because it runs on the processors that are measured.
type stubStripe struct {
	Listen string `help:"Address to serve." required:""`

	latency atomic.Int64 // of a charge, in nanoseconds
}

// latencyPath sets how long a charge takes: GET /_latency?for=50ms.
const latencyPath = "/_latency"

// Run serves until a signal.
func (s *stubStripe) Run(ctx context.Context) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	listener, err := cli.Listen(ctx, "listen", s.Listen)
	if err != nil {
		return err
	}
	server := fasthttp.Server{Handler: s.answer, NoDefaultServerHeader: true, Concurrency: 1 << 20}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (s *stubStripe) answer(c *fasthttp.RequestCtx) {
	c.SetContentType("application/json")
	c.Response.Header.Set("Request-Id", "req_bench")
	path := string(c.Path())
	intent, isIntent := strings.CutPrefix(path, "/v1/payment_intents/")
	switch {
	case path == "/v1/payment_intents" && c.IsPost():
		time.Sleep(time.Duration(s.latency.Load()))
		s.charge(c)
	case isIntent && strings.HasSuffix(intent, "/cancel"):
		fmt.Fprintf(c, `{"id":%q,"object":"payment_intent","status":"canceled","livemode":false}`, strings.TrimSuffix(intent, "/cancel"))
	case path == "/v1/account":
		fmt.Fprint(c, `{"id":"acct_1BenchBenchBench","object":"account","charges_enabled":true,"country":"US","default_currency":"usd"}`)
	case path == latencyPath:
		if err := s.setLatency(string(c.QueryArgs().Peek("for"))); err != nil {
			c.Error(err.Error(), fasthttp.StatusBadRequest)
		}
	default:
		c.SetStatusCode(fasthttp.StatusNotFound)
		fmt.Fprint(c, `{"error":{"type":"invalid_request_error","message":"The stub doesn't know this path."}}`)
	}
}

func (s *stubStripe) setLatency(text string) error {
	latency, err := time.ParseDuration(text)
	if err != nil || latency < 0 {
		return errors.New("for must be a duration, such as 50ms")
	}
	s.latency.Store(int64(latency))
	return nil
}

// charge answers a request to charge a card, as Stripe does with
// confirm=true.
func (s *stubStripe) charge(c *fasthttp.RequestCtx) {
	id := idOf(c.Request.Header.Peek("Idempotency-Key"))
	form := c.PostArgs()
	if bytes.Contains(form.Peek("payment_method"), []byte("chargeDeclined")) {
		c.SetStatusCode(fasthttp.StatusPaymentRequired)
		fmt.Fprintf(c, `{"error":{"type":"card_error","code":"card_declined","decline_code":"generic_decline","charge":"ch_%s",`+
			`"message":"Your card was declined.","payment_intent":`, id)
		writeIntent(c, form, id, "requires_payment_method", "0")
		fmt.Fprint(c, `}}`)
		return
	}
	writeIntent(c, form, id, "succeeded", string(form.Peek("amount")))
}

// idOf makes the part of Stripe's ids that differs, which has the length of
// Stripe's own.
func idOf(key []byte) string {
	const length = 24
	if len(key) < length {
		key = append(bytes.Repeat([]byte("0"), length), key...)
	}
	return string(key[len(key)-length:])
}

// writeIntent writes a payment intent with the members of Stripe's that a
// client reads, and most of the others.
func writeIntent(c *fasthttp.RequestCtx, form *fasthttp.Args, id, status, received string) {
	quoted := func(name string) string { return strconv.Quote(string(form.Peek(name))) }
	fmt.Fprintf(c, `{"id":"pi_%s","object":"payment_intent","amount":%s,"amount_capturable":0,"amount_received":%s,`+
		`"automatic_payment_methods":null,"canceled_at":null,"cancellation_reason":null,"capture_method":"automatic",`+
		`"client_secret":"pi_%s_secret_bench","confirmation_method":"automatic","created":%d,"currency":%s,"customer":%s,`+
		`"description":%s,"last_payment_error":null,"latest_charge":"ch_%s","livemode":false,`+
		`"metadata":{"account_id":%s,"operation":%s,"ride_id":%s},"next_action":null,"payment_method":"pm_bench",`+
		`"payment_method_types":["card"],"status":%q}`,
		id, form.Peek("amount"), received, id, c.Time().Unix(), quoted("currency"), quoted("customer"), quoted("description"), id,
		quoted("metadata[account_id]"), quoted("metadata[operation]"), quoted("metadata[ride_id]"), status)
}
