package payments

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	stageKey = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"
	// The routes that a stage can play.
	routeCreate = "POST /v1/payment_intents"
	routeRead   = "GET /v1/payment_intents/{id}"
	routeList   = "GET /v1/payment_intents"
	routeCancel = "POST /v1/payment_intents/{id}/cancel"
)

// A stage is a real server that plays Stripe for one test, answer by answer,
// and remembers every request that it has read to the end.
type stage struct {
	*httptest.Server
	mu       sync.Mutex
	requests []stageRequest
}

type stageRequest struct {
	route, path, query, body string
	header                   http.Header
}

// newStage plays the handlers of a route in turn, and the last one from then
// on. A request to any other route fails the test.
func newStage(t *testing.T, plays map[string][]http.HandlerFunc) *stage {
	t.Helper()
	s := stageFor(t, plays)
	s.Start()
	return s
}

func stageFor(t *testing.T, plays map[string][]http.HandlerFunc) *stage {
	t.Helper()
	s := new(stage)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("nobody plays %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
	})
	for route, handlers := range plays {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			handlers[min(s.note(t, route, r), len(handlers)-1)](w, r)
		})
	}
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

// note remembers a request and returns how many came to its route before.
func (s *stage) note(t *testing.T, route string, r *http.Request) int {
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
	s.requests = append(s.requests, stageRequest{route, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Clone()})
	return before
}

// seen returns the requests to a route, in order of arrival.
func (s *stage) seen(route string) []stageRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r stageRequest) bool { return r.route != route })
}

// client returns a Stripe that talks to the stage, and the registry of its
// metrics.
func (s *stage) client(t *testing.T, change func(*Config)) (*Stripe, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	config := Config{
		Key: stageKey, URL: s.URL, Timeout: 20 * time.Second, Saved500After: time.Hour, RefusedPause: time.Hour,
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

// judgments returns the rows that judged, as call/row, sorted, each as often as
// it judged.
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

// stageTerms are the charge of every test: odd enough to show a byte that is
// encoded twice or not at all.
func stageTerms() ChargeTerms {
	return ChargeTerms{
		Amount: 2350, Currency: "usd", Customer: "cus_1", PaymentMethod: "pm_1",
		Description: "Ride ride_1: Zoë & Ænima + 100% “fun”=[x]\n~*'();:@,/?#", RideID: "ride_1", AccountID: "acct_1",
		Operation: phases.ForeignKey("hail", "charge_created", "acct_1", "key 1"),
	}
}

// stageSent is the first send of the charge of every test.
func stageSent() phases.Sent[ChargeForm] {
	return phases.Sent[ChargeForm]{
		Key: stageTerms().Operation, Form: NewChargeForm(stageTerms()), First: true,
		FirstSentAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	}
}

type stripeObject = map[string]any

// intentWith returns the payment intent of the charge, succeeded, but for the
// changes.
func intentWith(changes stripeObject) stripeObject {
	intent := stripeObject{
		"id": "pi_1", "object": "payment_intent", "amount": 2350, "amount_received": 2350, "currency": "usd",
		"customer": "cus_1", "status": "succeeded", "latest_charge": "ch_1", "created": 1795341600,
		"client_secret": "pi_1_secret_dontshow", "livemode": false,
		"metadata": stripeObject{"ride_id": "ride_1", "account_id": "acct_1", "operation": stageTerms().Operation},
	}
	maps.Copy(intent, changes)
	return intent
}

// expandedWith returns the same with its charge expanded, paid but for the
// changes.
func expandedWith(changes, chargeChanges stripeObject) stripeObject {
	charge := stripeObject{
		"id": "ch_1", "object": "charge", "amount": 2350, "paid": true, "captured": true, "status": "succeeded",
		"refunded": false, "amount_refunded": 0, "disputed": false,
	}
	maps.Copy(charge, chargeChanges)
	intent := intentWith(stripeObject{"latest_charge": charge})
	maps.Copy(intent, changes)
	return intent
}

// failedIntent is a payment intent whose card was declined.
func failedIntent(changes stripeObject) stripeObject {
	intent := expandedWith(stripeObject{
		"status": "requires_payment_method", "amount_received": 0,
		"last_payment_error": stripeObject{
			"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
			"message": "Your card has insufficient funds.", "charge": "ch_1",
		},
	}, stripeObject{"paid": false, "captured": false, "status": "failed"})
	maps.Copy(intent, changes)
	return intent
}

// foreignMetadata is metadata of somebody else's ride.
func foreignMetadata() stripeObject {
	return stripeObject{"ride_id": "ride_2", "account_id": "acct_2", "operation": "0123"}
}

// answerOK answers 200 with an object.
func answerOK(body stripeObject, headers ...string) http.HandlerFunc {
	return answerWith(http.StatusOK, encodeObject(body), headers...)
}

// answerPage answers 200 with a page of a list.
func answerPage(more bool, intents ...stripeObject) http.HandlerFunc {
	if intents == nil {
		intents = []stripeObject{}
	}
	return answerOK(stripeObject{"object": "list", "url": "/v1/payment_intents", "has_more": more, "data": intents})
}

// answerProblem answers with Stripe's error object.
func answerProblem(status int, kind, code string, more stripeObject, headers ...string) http.HandlerFunc {
	body := stripeObject{"type": kind, "message": "Stripe's words about " + stageKey}
	if code != "" {
		body["code"] = code
	}
	maps.Copy(body, more)
	return answerWith(status, encodeObject(stripeObject{"error": body}), headers...)
}

// answerDeclined answers 402 as a card's bank does.
func answerDeclined(more stripeObject, headers ...string) http.HandlerFunc {
	body := stripeObject{
		"decline_code": "insufficient_funds", "message": "Your card has insufficient funds.", "charge": "ch_1",
		"payment_intent": failedIntent(nil),
	}
	maps.Copy(body, more)
	return answerProblem(http.StatusPaymentRequired, "card_error", "card_declined", body, headers...)
}

// answerWith answers with a status, a body and headers in pairs.
func answerWith(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", "req_1")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the other side may have hung up
	}
}

// replayedHeader is how Stripe marks a saved answer.
func replayedHeader() []string { return []string{"Idempotent-Replayed", "true"} }

func encodeObject(body stripeObject) string {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // only a wrong literal in a test can do this
	}
	return string(text)
}

// answerCut ends the connection after writing some bytes, which may be none.
func answerCut(bytes string, how func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(fmt.Sprintf("taking over a connection: %v", err))
		}
		_, _ = io.WriteString(conn, bytes)
		how(conn)
	}
}

func hangUp(conn net.Conn) { _ = conn.Close() }

// resetConn makes the client see "connection reset by peer" instead of an
// orderly end.
func resetConn(conn net.Conn) {
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// answerNever answers nothing until the client has gone away.
func answerNever(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// answerSlowly answers byte by byte for as long as the client reads.
func answerSlowly(w http.ResponseWriter, r *http.Request) {
	body := encodeObject(intentWith(nil))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	for i := range len(body) - 1 {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
			_, _ = io.WriteString(w, body[i:i+1])
			_ = http.NewResponseController(w).Flush()
		}
	}
	<-r.Context().Done()
}

// wantEqual fails the test where got isn't want.
func wantEqual(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// wantNoSecrets fails the test where text gives away the key, or quotes what
// Stripe sent.
func wantNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, bad := range []string{stageKey, "sk_test", "secret", "{", "<", "Stripe's words", "cus_1"} {
		if strings.Contains(text, bad) {
			t.Errorf("the text holds %q: %s", bad, text)
		}
	}
}
