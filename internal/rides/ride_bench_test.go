package rides

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// stubStripe answers each charge with a success, in this process and at little
// cost.
type stubStripe struct{}

// RoundTrip implements http.RoundTripper.
func (stubStripe) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	answer := fmt.Appendf(nil, `{"id":"pi_%s","object":"payment_intent","status":"succeeded","amount":%s,"amount_received":%[2]s,"currency":%q,"customer":%q,`+
		`"latest_charge":"ch_%[1]s","livemode":false,"metadata":{"ride_id":%[5]q,"account_id":%q,"operation":%q}}`,
		form.Get("metadata[operation]")[:20], form.Get("amount"), form.Get("currency"), form.Get("customer"),
		form.Get("metadata[ride_id]"), form.Get("metadata[account_id]"), form.Get("metadata[operation]"))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), Request: r}, nil
}

// startFast starts a process whose Stripe is a stub, and which logs and limits
// as the api does. It returns what hails a ride of an account, without a
// network between.
func (h *harness) startFast(tb testing.TB) func(who accounts.Credentials, key string) int {
	tb.Helper()
	stripe, err := payments.NewStripe(payments.Config{
		Key: stripeKey, URL: "http://stripe.invalid", Transport: stubStripe{}, Timeout: 10 * time.Second, Saved500After: time.Hour, Logger: h.log,
	})
	if err != nil {
		tb.Fatal(err)
	}
	p := h.startProcess(tb, nil, func(c *phases.Config) { c.Flows = Flows(stripe, accounts.Store{Pool: c.Pool}) })
	p.config.Stripe, p.config.RateLimit = stripe, limit.Rate{PerSecond: 1e6, Burst: 1e6}
	handler := NewService(p.config).Handler()
	return func(who accounts.Credentials, key string) int {
		request := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/v1/rides", strings.NewReader(aRide))
		request.Header = http.Header{
			"Authorization": {"Bearer " + who.APIKey.Reveal()}, "Content-Type": {"application/json"}, "Idempotency-Key": {key},
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Code
	}
}

// BenchmarkRide is a ride from the request to its answer, one after the other.
func BenchmarkRide(b *testing.B) {
	h := newHarness(b)
	hail := h.startFast(b)
	hail(h.visa, "warm")
	b.ReportAllocs()
	runtime.GC()
	i := 0
	for b.Loop() {
		i++
		if status := hail(h.visa, fmt.Sprint("bench-", i)); status != http.StatusCreated {
			b.Fatalf("ride %d was answered %d", i, status)
		}
	}
}

// BenchmarkRides is the same with 32 clients, whose rides share what they send
// to the database.
func BenchmarkRides(b *testing.B) {
	h := newHarness(b)
	hail := h.startFast(b)
	hail(h.visa, "warm")
	b.ReportAllocs()
	b.SetParallelism(32 / runtime.GOMAXPROCS(0))
	runtime.GC()
	b.ResetTimer()
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if status := hail(h.visa, fmt.Sprint("bench-", n.Add(1))); status != http.StatusCreated {
				b.Errorf("a ride was answered %d", status)
			}
		}
	})
}
