package payments

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	testKey = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"
	// The routes that a stripeServer can answer.
	routeCreate   = "POST /v1/payment_intents"
	routeRead     = "GET /v1/payment_intents/{id}"
	routeList     = "GET /v1/payment_intents"
	routeCancel   = "POST /v1/payment_intents/{id}/cancel"
	routeCustomer = "GET /v1/customers/{id}"
	routeMethod   = "GET /v1/payment_methods/{id}"
	routeAccount  = "GET /v1/account"
	routeRefund   = "POST /v1/refunds"
	routeRefunds  = "GET /v1/refunds"
	routeDisputes = "GET /v1/disputes"
)

// A stripeServer is a real HTTP server that answers one test's requests as
// Stripe might, by the test's own handlers. It records every request.
type stripeServer struct {
	*httptest.Server
	mu       sync.Mutex
	requests []receivedRequest
}

type receivedRequest struct {
	route, path, query, body string
	header                   http.Header
}

// newStripeServer starts a server. It uses the handlers of a route in turn, and
// the last one from then on. A request to any other route fails the test.
func newStripeServer(t *testing.T, answers map[string][]http.HandlerFunc) *stripeServer {
	t.Helper()
	s := unstartedStripeServer(t, answers)
	s.Start()
	return s
}

func unstartedStripeServer(t *testing.T, answers map[string][]http.HandlerFunc) *stripeServer {
	t.Helper()
	s := new(stripeServer)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("unexpected request: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
	})
	for route, handlers := range answers {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			handlers[min(s.note(t, route, r), len(handlers)-1)](w, r)
		})
	}
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

// note records a request and returns how many came to its route before.
func (s *stripeServer) note(t *testing.T, route string, r *http.Request) int {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("reading a request: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := 0
	for _, request := range s.requests {
		if request.route == route {
			before++
		}
	}
	s.requests = append(s.requests, receivedRequest{route, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Clone()})
	return before
}

// received returns the requests to a route, in order of arrival.
func (s *stripeServer) received(route string) []receivedRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r receivedRequest) bool { return r.route != route })
}

// client returns a Stripe that talks to s, and the registry of its metrics.
func (s *stripeServer) client(t *testing.T, change func(*Config)) (*Stripe, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	config := Config{
		Key: testKey, URL: s.URL, Timeout: 20 * time.Second, Saved500After: time.Hour, RefusedPause: time.Hour,
		Metrics: registry,
	}
	if change != nil {
		change(&config)
	}
	client, err := NewStripe(config)
	if err != nil {
		t.Fatalf("making the client: %v", err)
	}
	return client, registry
}

// judgments returns the rows that judged an answer, as call/row, sorted, each
// as often as it did.
func judgments(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatalf("reading the metrics: %v", err)
	}
	var rows []string
	for _, family := range families {
		if family.GetName() != "rides_stripe_results_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			row := metric.GetLabel()[0].GetValue() + "/" + metric.GetLabel()[1].GetValue()
			rows = append(rows, slices.Repeat([]string{row}, int(metric.GetCounter().GetValue()))...)
		}
	}
	return rows
}

// testTerms returns the terms of the charge of every test. The description has
// characters that show an encoding that is done twice or not at all.
func testTerms() ChargeTerms {
	return ChargeTerms{
		Amount: 2350, Currency: "usd", Customer: "cus_1", PaymentMethod: "pm_1",
		Description: "Ride ride_1: Zoë & Ænima + 100% “fun”=[x]\n~*'();:@,/?#", RideID: "ride_1", AccountID: "acct_1",
		Operation: phases.ForeignKey("hail", "charge_created", "acct_1", "key 1"),
	}
}

// firstSend returns the first send of the charge of every test.
func firstSend() phases.Sent[ChargeForm] {
	return phases.Sent[ChargeForm]{
		Key: testTerms().Operation, Form: NewChargeForm(testTerms()), First: true,
		FirstSentAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	}
}

// customers returns a CustomersOf for an account that has or had these.
func customers(ids ...string) CustomersOf {
	return func(context.Context, string) ([]string, error) { return ids, nil }
}

// wantEqual fails the test if got isn't want.
func wantEqual(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// wantNoSecrets fails the test if text contains the key, or quotes what Stripe
// sent.
func wantNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, bad := range []string{testKey, "sk_test", "secret", "{", "<", "Stripe's words", "cus_1"} {
		if strings.Contains(text, bad) {
			t.Errorf("the text holds %q: %s", bad, text)
		}
	}
}
