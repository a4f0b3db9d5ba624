package rides

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestWhenANewKeyIsSafe: a client may send a request with a new key only if
// nothing was and will be charged under the old one.
func TestWhenANewKeyIsSafe(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_card_authenticationRequired' WHERE id = $1`, h.second.AccountID)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	if r := h.hailAs(t, h.visa, "unclear").must(t, 503, web.CodePaymentProcessorUnavailable); r.problem.SafeNewKey {
		t.Error("it is unclear what was charged, and a new key is said to be safe")
	}
	if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "unclear"), "ann"); err != nil {
		t.Fatal(err)
	}
	hail := func(change func(*call)) call {
		c := call{method: "POST", path: "/v1/rides", body: aRide, key: "new", as: h.visa}
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		call   call
		status int
		code   web.Code
		safe   bool
	}{
		"a declined card":         {hail(func(c *call) { c.as = h.declined }), 402, web.CodeCardDeclined, true},
		"a cardholder to ask":     {hail(func(c *call) { c.as = h.second }), 402, web.CodeAuthenticationRequired, true},
		"no key":                  {hail(func(c *call) { c.key = "" }), 400, web.CodeIdempotencyKeyMissing, true},
		"an invalid key":          {hail(func(c *call) { c.key = "undefined" }), 400, web.CodeIdempotencyKeyInvalid, true},
		"a new key's parameters":  {hail(func(c *call) { c.body = `{}` }), 422, web.CodeInvalidParameters, true},
		"the query":               {hail(func(c *call) { c.path += "?dry=1" }), 422, web.CodeInvalidParameters, false},
		"a list's query":          {call{method: "GET", path: "/v1/rides?limit=0", as: h.visa}, 422, web.CodeInvalidParameters, false},
		"a used key's parameters": {hail(func(c *call) { c.key, c.body = "done", `{}` }), 422, web.CodeIdempotencyKeyReused, false},
		"a key under review":      {hail(func(c *call) { c.key = "unclear" }), 409, web.CodePaymentUnderReview, false},
		"no API key":              {hail(func(c *call) { c.as = accounts.Credentials{} }), 401, web.CodeUnauthenticated, false},
		"no JSON":                 {hail(func(c *call) { c.body = `{` }), 400, web.CodeInvalidJSON, false},
		"another type":            {hail(func(c *call) { c.header = http.Header{"Content-Type": {"text/plain"}} }), 415, web.CodeUnsupportedMediaType, false},
		"a body that is too long": {hail(func(c *call) { c.body = strings.Repeat(" ", mostBytes) + "{}" }), 413, web.CodeBodyTooLarge, false},
		"another method":          {hail(func(c *call) { c.method = "PUT" }), 405, web.CodeMethodNotAllowed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := h.send(t, test.call).must(t, test.status, test.code)
			if r.problem.SafeNewKey != test.safe || !strings.Contains(r.body, `"safe_new_key":`) {
				t.Errorf("safe_new_key should be %t in %s", test.safe, r.body)
			}
			wait := map[web.Code]string{web.CodePaymentUnderReview: "60"}[test.code]
			if got := r.header.Get("Retry-After"); got != wait {
				t.Errorf("Retry-After is %q, want %q", got, wait)
			}
		})
	}
}

// TestWordsOfARefusedPayment: nobody can change the card by this API, so the
// words name who can, and only where another card helps.
func TestWordsOfARefusedPayment(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for method, want := range map[string]struct {
		status int
		code   web.Code
		words  string
	}{
		"pm_card_chargeCustomerFail":              {402, web.CodeCardDeclined, "Ask the operator of this service to give your account another card"},
		"pm_card_authenticationRequired":          {402, web.CodeAuthenticationRequired, "Ask the operator of this service to give your account another card"},
		"pm_fake_tryAgainLater":                   {402, web.CodeCardDeclined, "The same card may work later"},
		"pm_card_chargeDeclinedProcessingError":   {402, web.CodeCardDeclined, "The same card may work later"},
		"pm_card_chargeDeclinedInsufficientFunds": {402, web.CodeCardDeclined, "another card"},
		"pm_gone":            {402, web.CodePaymentFailed, "may no longer know your account's customer or payment method"},
		"pm_fake_processing": {503, web.CodePaymentProcessorUnavailable, "is still working on it"},
	} {
		h.exec(t, `UPDATE accounts SET payment_method = $2 WHERE id = $1`, h.visa.AccountID, method)
		r := h.startProcess(t, nil).hailAs(t, h.visa, method).must(t, want.status, want.code)
		if !strings.Contains(r.problem.Detail, want.words) || strings.Contains(r.problem.Detail, "could not be reached") {
			t.Errorf("%s: %s", method, r.problem.Detail)
		}
		if both := strings.Contains(r.problem.Detail, "another card") && strings.Contains(r.problem.Detail, "same card"); both {
			t.Errorf("%s asks for another card and for the same one: %s", method, r.problem.Detail)
		}
	}
}

// TestTheQueryIsCheckedBeforeAuthentication, on every route: an unknown
// parameter is refused, not ignored, or a client that sends dry=1 would be
// charged.
func TestTheQueryIsCheckedBeforeAuthentication(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, c := range []call{
		{method: "POST", path: "/v1/rides?dry=1", body: aRide, key: "k", as: h.visa},
		{method: "POST", path: "/v1/rides?dry=1", body: aRide, key: "k"},
		{method: "GET", path: "/v1/rides?dry=1"},
		{method: "GET", path: "/v1/rides?limit=0"},
		{method: "GET", path: "/v1/rides/ride_1?limit=1"},
		{method: "GET", path: "/v1/rides/ride_1?%zz"},
	} {
		r := h.send(t, c).must(t, 422, web.CodeInvalidParameters)
		if len(r.problem.Errors) != 1 || strings.Contains(r.problem.Detail, "Idempotency-Key") {
			t.Errorf("%s %s: %s", c.method, c.path, r.body)
		}
	}
	h.send(t, call{method: "POST", path: "/v1/boats?dry=1"}).must(t, 404, web.CodeNotFound)
	h.send(t, call{method: "PUT", path: "/v1/rides?dry=1"}).must(t, 405, web.CodeMethodNotAllowed)
	if n := len(h.fake.Ledger()); n != 0 {
		t.Errorf("Stripe was asked %d times", n)
	}
}

// TestALargeRequestHasASmallAnswer: 64 KiB of unknown fields make no more than
// 8 KiB of answer.
func TestALargeRequestHasASmallAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var many strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&many, `"%d":1,`, i)
	}
	for name, body := range map[string]string{
		"many": strings.Replace(aRide, "{", "{"+many.String(), 1),
		"long": strings.Replace(aRide, "{", `{"`+strings.Repeat("a", 60_000)+`":1,`, 1),
		"both": strings.Replace(aRide, "{", `{"`+strings.Repeat(`\u0001`, 9_000)+`":1,"`+strings.Repeat(`\u0002`, 1000)+`":1,`, 1),
	} {
		r := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}).must(t, 422, web.CodeInvalidParameters)
		if len(r.body) > 8<<10 || len(r.problem.Errors) == 0 || len(r.problem.Errors) > 20 {
			t.Errorf("%s: %d bytes with %d faults", name, len(r.body), len(r.problem.Errors))
		}
	}
}

// TestWhoHangsUpChangesNothing: from the body's end on, nothing depends on the
// client's connection. The database is locked until the client is gone, so that
// the authentication or the look-up of the key is on its way when that happens.
func TestWhoHangsUpChangesNothing(t *testing.T) {
	t.Parallel()
	for _, locked := range []string{"accounts", "idempotency_keys"} {
		t.Run("during the look-up in "+locked, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			log, arrived := make(lines, 8), make(chan context.Context, 2)
			config := h.config
			config.Logger = slog.New(slog.NewJSONHandler(log, nil))
			service := NewService(config).Handler()
			api := h.serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- r.Context()
				service.ServeHTTP(w, r)
			}))
			lock, err := h.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Rollback(t.Context()) }()
			if _, err := lock.Exec(t.Context(), `LOCK TABLE `+pgx.Identifier{locked}.Sanitize()); err != nil {
				t.Fatal(err)
			}
			for method, body := range map[string]string{http.MethodPost: aRide, http.MethodGet: ""} {
				leave := h.ask(t, api, method, body)
				request := <-arrived
				pgtest.Eventually(t, "the request waits for the lock", func() bool {
					return number(t, h, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
				})
				leave()
				if body == "" || locked == "idempotency_keys" {
					<-request.Done() // net/http notices only when the body was read
				}
			}
			if err := lock.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				line := map[string]any{}
				if err := json.Unmarshal(<-log, &line); err != nil {
					t.Fatal(err)
				}
				if want := map[any]float64{"POST": 201, "GET": 200}[line["method"]]; line["status"] != want || line["level"] != "INFO" {
					t.Errorf("the log says %v", line)
				}
			}
			h.checkCharged(t, h.visa, "k")
		})
	}
}

// ask makes a request that nobody waits for. The function that it returns hangs
// up, and returns when that is done.
func (h *harness) ask(t *testing.T, api *process, method, body string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, method, api.api+"/v1/rides", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{
		"Authorization": {"Bearer " + h.visa.APIKey.Reveal()}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"},
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if response, err := (&http.Transport{}).RoundTrip(request); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s was answered %d, the lock is of no use", method, response.StatusCode)
		}
	}()
	return func() { cancel(); <-gone }
}

// lines hands on each line that is logged to it.
type lines chan []byte

func (l lines) Write(line []byte) (int, error) {
	l <- bytes.Clone(line)
	return len(line), nil
}
