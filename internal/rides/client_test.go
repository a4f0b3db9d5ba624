package rides

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A reply is an answer of the API.
type reply struct {
	status  int
	header  http.Header
	body    string
	problem web.Problem
	ride    Ride
}

// A call is a request to be made.
type call struct {
	method, path, body string
	key                string
	as                 accounts.Credentials
	header             http.Header
}

// send makes one request, and checks what every answer must have.
func (p *process) send(t *testing.T, c call) reply {
	t.Helper()
	request := p.newRequest(t.Context(), t, c)
	response, err := p.roundTrip(t, request)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	r := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	r.check(t)
	return r
}

// roundTrip makes a request, and compares it and its answer with the OpenAPI
// document. Every request of the tests to the API comes through here, except
// those that are cut off.
func (p *process) roundTrip(t *testing.T, request *http.Request) (*http.Response, error) {
	t.Helper()
	if p.undocumented {
		return http.DefaultTransport.RoundTrip(request)
	}
	return apitest.Transport{T: t, Record: p.record}.RoundTrip(request)
}

// newRequest returns the HTTP request of a call.
func (p *process) newRequest(ctx context.Context, t *testing.T, c call) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, c.method, p.api+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.as.AccountID != "" {
		request.Header.Set("Authorization", "Bearer "+c.as.APIKey.Reveal())
	}
	if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Idempotency-Key", c.key)
	}
	maps.Copy(request.Header, c.header)
	return request
}

func (r *reply) check(t *testing.T) {
	t.Helper()
	if !strings.HasPrefix(r.header.Get("Request-Id"), "req_") {
		t.Errorf("Request-Id is %q", r.header.Get("Request-Id"))
	}
	if got := r.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if !bytes.HasSuffix([]byte(r.body), []byte("\n")) {
		t.Errorf("body %q doesn't end its line", r.body)
	}
	if r.status < 400 {
		if got := r.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type is %q", got)
		}
		if err := json.Unmarshal([]byte(r.body), &r.ride); err != nil {
			t.Errorf("%v in %s", err, r.body)
		}
		return
	}
	if got := r.header.Get("Content-Type"); got != web.ProblemType {
		t.Errorf("Content-Type of a problem is %q", got)
	}
	if err := json.Unmarshal([]byte(r.body), &r.problem); err != nil {
		t.Errorf("%v in %s", err, r.body)
	}
	if p := r.problem; p.Type != "/problems/"+string(p.Code) || p.Status != r.status || p.Title == "" || p.Detail == "" || p.RequestID == "" || len(r.body) > 8<<10 {
		t.Errorf("an incomplete problem, or a large one: %s", r.body)
	}
	if r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

// hailAs hails the usual ride.
func (p *process) hailAs(t *testing.T, who accounts.Credentials, key string) reply {
	t.Helper()
	return p.send(t, call{method: "POST", path: "/v1/rides", body: aRide, key: key, as: who})
}

// must stops the test unless the reply has the given status and code.
func (r reply) must(t *testing.T, status int, code web.Code) reply {
	t.Helper()
	if r.status != status || r.problem.Code != code {
		t.Fatalf("got %d %s, want %d %s: %s", r.status, r.problem.Code, status, code, r.body)
	}
	return r
}

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(r.body), &value); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return value
}

// checkCharged checks everything that must be true of a ride that was charged,
// in the database and at Stripe.
func (h *harness) checkCharged(t *testing.T, who accounts.Credentials, key string) {
	t.Helper()
	ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(who.AccountID, key), as: who}).must(t, 200, "").ride
	if ride.Status != StatusCharged || ride.Charge == nil {
		t.Fatalf("the ride is %s with charge %v", ride.Status, ride.Charge)
	}
	var intents []fakestripe.PaymentIntent
	for _, intent := range h.fake.PaymentIntents() {
		if intent.Metadata["ride_id"] == ride.ID {
			intents = append(intents, intent)
		}
	}
	if len(intents) != 1 || h.fake.Charges()[ride.ID] != 1 {
		t.Fatalf("Stripe has %d intents and %d charges for the ride, want one", len(intents), h.fake.Charges()[ride.ID])
	}
	if intent := intents[0]; intent.ID != ride.Charge.PaymentIntent || intent.Amount != ride.Fare.Amount || intent.Currency != ride.Fare.Currency {
		t.Errorf("the ride has %+v for %+v, Stripe has %+v", ride.Charge, ride.Fare, intent)
	}
	for _, sql := range []string{
		`SELECT count(*) FROM rides WHERE account_id = $1 AND key = $2`,
		`SELECT count(*) FROM staged_jobs WHERE kind = 'receipt' AND account_id = $1 AND key = $2`,
		`SELECT count(*) FROM audit_records a JOIN rides r ON r.account_id = a.account_id AND r.id = a.ride_id
		 WHERE a.action = 'ride.created' AND r.account_id = $1 AND r.key = $2`,
		`SELECT count(*) FROM idempotency_keys WHERE recovery_point = 'finished' AND account_id = $1 AND key = $2`,
	} {
		if n := number(t, h, sql, who.AccountID, key); n != 1 {
			t.Errorf("%d rows, want 1: %s", n, sql)
		}
	}
	h.checkSends(t)
}

// checkSends checks that all sends under one key had the same bytes, and named
// the key as their operation (I6).
func (h *harness) checkSends(t *testing.T) {
	t.Helper()
	bodies := map[string]string{}
	for _, send := range h.fake.Ledger() {
		if send.Path != "/v1/payment_intents" {
			continue
		}
		if send.Key == "" || send.Params["metadata[operation]"] != send.Key {
			t.Errorf("a send has key %q and operation %q", send.Key, send.Params["metadata[operation]"])
		}
		if first, ok := bodies[send.Key]; ok && first != send.Body {
			t.Errorf("one key was sent with %q and with %q", first, send.Body)
		}
		bodies[send.Key] = send.Body
	}
}
