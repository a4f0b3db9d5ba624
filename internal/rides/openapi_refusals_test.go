package rides

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// refusals are those of what is wrong with a request.
func (tr *tour) refusals(t *testing.T) {
	t.Helper()
	hail := func(change func(*call)) call {
		c := tr.hailCall("order-5001", "")
		change(&c)
		return c
	}
	typed := func(name, value string) func(*call) {
		return func(c *call) { c.header = http.Header{name: {value}} }
	}
	for name, refused := range map[string]struct {
		call   call
		status int
		code   web.Code
	}{
		"idempotency_key_missing": {hail(func(c *call) { c.key = "" }), 400, web.CodeIdempotencyKeyMissing},
		"idempotency_key_invalid": {hail(func(c *call) { c.key = "undefined" }), 400, web.CodeIdempotencyKeyInvalid},
		"invalid_json":            {hail(func(c *call) { c.body = `{"origin":` }), 400, web.CodeInvalidJSON},
		"unauthenticated":         {hail(func(c *call) { c.as = accounts.Credentials{} }), 401, web.CodeUnauthenticated},
		"not_found":               {call{method: "GET", path: "/v1/rides/ride_none", as: tr.visa}, 404, web.CodeNotFound},
		"method_not_allowed":      {call{method: "DELETE", path: "/v1/rides", as: tr.visa}, 405, web.CodeMethodNotAllowed},
		"body_too_large":          {hail(func(c *call) { c.body = `{"a":"` + strings.Repeat("a", mostBytes) + `"}` }), 413, web.CodeBodyTooLarge},
		"unsupported_media_type":  {hail(typed("Content-Type", "application/x-www-form-urlencoded")), 415, web.CodeUnsupportedMediaType},
		"invalid_parameters":      {hail(func(c *call) { c.body = strings.Replace(aRide, "37.7749", "91", 1) }), 422, web.CodeInvalidParameters},
		"idempotency_key_reused":  {hail(func(c *call) { c.key, c.body = "order-1001", "{}" }), 422, web.CodeIdempotencyKeyReused},
		"invalid_query":           {call{method: "GET", path: "/v1/rides?limit=0", as: tr.visa}, 422, web.CodeInvalidParameters},
	} {
		tr.see(t, tr.process, name, refused.call, refused.status, refused.code)
	}
	tr.see(t, tr.process, "", hail(typed("Content-Encoding", "gzip")), 415, web.CodeUnsupportedMediaType)
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/boats"}, 404, web.CodeNotFound)
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/rides"}, 401, web.CodeUnauthenticated)
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/rides/ride_1"}, 401, web.CodeUnauthenticated)
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/rides/ride_1?x=1"}, 422, web.CodeInvalidParameters)
	tr.see(t, tr.process, "", call{method: "GET", path: "/v1/rides?starting_after=ride_1", as: tr.visa}, 422, web.CodeInvalidParameters)
	for _, change := range []func(*call){
		func(c *call) { c.key = "" }, func(c *call) { c.as = accounts.Credentials{} }, typed("Content-Type", "text/plain"),
		func(c *call) { c.body = `{"a":1}` }, func(c *call) { c.body = strings.Repeat(" ", mostBytes) + "{}" },
	} {
		c := tr.cancelCall("order-1001", "cancel-refused")
		c.body = "{}"
		if change(&c); c.header == nil {
			c.header = http.Header{}
		}
		if r := tr.send(t, with(c)); r.status < 400 {
			t.Errorf("answered %d", r.status)
		}
	}
	reaper := phases.Completer{Engine: tr.engine, Poll: time.Millisecond, Concurrency: 1, Retention: time.Nanosecond, Tombstones: time.Hour}
	if _, err := reaper.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.see(t, tr.process, "idempotency_key_expired", hail(func(c *call) { c.key, c.as = "order-2001", tr.declined }), 422, web.CodeIdempotencyKeyExpired)
}

// calls returns a request to each route that acts for an account. A new route
// is a new line here.
func (tr *tour) calls() []call {
	return []call{
		tr.hailCall("order-6001", ""),
		tr.cancelCall("order-1001", "cancel-6001"),
		{method: "GET", path: "/v1/rides", as: tr.visa},
		tr.getCall("order-1001", ""),
	}
}

// seeAll makes a request to each route, which all have the same fate. The
// answer of the first is the example.
func (tr *tour) seeAll(t *testing.T, p *process, example string, status int, code web.Code) {
	t.Helper()
	for _, c := range tr.calls() {
		tr.see(t, p, example, c, status, code)
		example = ""
	}
}

// trouble is what passes by itself.
func (tr *tour) trouble(t *testing.T) {
	t.Helper()
	list := call{method: "GET", path: "/v1/rides", as: tr.visa}
	full := tr.fresh(t, func(c *Config) { c.RateLimit = limit.Rate{PerSecond: 0.01, Burst: 1} })
	tr.see(t, full, "", list, 200, "")
	tr.seeAll(t, full, "rate_limited", 429, web.CodeRateLimited)
	line := wire.NewPostgres()
	cut := tr.startProcess(t, line)
	cut.config.RateLimit = limit.Rate{PerSecond: 1000, Burst: 1000}
	cut = cut.serving(t, NewService(cut.config).Handler())
	cut.record = tr.record
	tr.see(t, cut, "", list, 200, "") // it knows the account from now on
	line.Plan(func(int, []byte) wire.Fault { return wire.Fault{Kind: wire.CutBefore} })
	tr.seeAll(t, cut, "unavailable", 503, web.CodeUnavailable)
}

// timeouts are those of bodies that don't come.
func (tr *tour) timeouts(t *testing.T) {
	t.Helper()
	var slow sync.WaitGroup
	for _, c := range append(tr.calls(), call{method: "POST", path: "/v1/stripe/events"}) {
		if c.method == http.MethodPost {
			slow.Go(func() { tr.withhold(t, c.path) })
		}
	}
	slow.Wait()
}

// withhold makes a request whose body has no end.
func (tr *tour) withhold(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := with(call{method: "POST", path: path, key: "order-7001", as: tr.visa, body: "{"})
	request := tr.newRequest(ctx, t, c)
	half, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	request.Body, request.ContentLength, request.GetBody = io.NopCloser(io.MultiReader(strings.NewReader("{"), half)), -1, nil
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	body, err := io.ReadAll(response.Body)
	if _ = response.Body.Close(); err != nil || response.StatusCode != http.StatusRequestTimeout {
		t.Errorf("%s: %d, %v", path, response.StatusCode, err)
	}
	tr.record(apitest.Exchange{
		Method: c.method, URL: path, RequestHeader: request.Header, RequestBody: []byte("{"),
		Status: response.StatusCode, Header: response.Header, Body: body,
	})
	if path == "/v1/rides" {
		tr.slow = string(body)
	}
}

// events are Stripe's.
func (tr *tour) events(t *testing.T) {
	t.Helper()
	for _, shape := range []string{"snapshot", "thin"} {
		body, signature, err := tr.fake.SignedEvent(tr.fake.Events()[0].ID, shape, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		tr.keep("stripe_event_"+shape, string(body))
		c := call{method: "POST", path: "/v1/stripe/events", body: string(body), header: http.Header{"Stripe-Signature": {signature}}}
		tr.see(t, tr.process, "event_received", c, 200, "")
	}
	unsigned := call{method: "POST", path: "/v1/stripe/events", body: event("evt_1", "charge.refunded", "ch_1")}
	tr.see(t, tr.process, "signature_invalid", unsigned, 400, web.CodeSignatureInvalid)
	tr.see(t, tr.process, "", call{method: "POST", path: "/v1/stripe/events?x=1"}, 422, web.CodeInvalidParameters)
	ours := strings.Replace(event("evt_1", "charge.refunded", "ch_1"), `"object":"event"`, `"object":"event","account":"acct_1"`, 1)
	tr.see(t, tr.fresh(t, func(c *Config) { c.StripeAccount = nil }), "", signed(ours, eventSecret, time.Now()), 503, web.CodeUnavailable)
}

// bugs breaks the database, so that the service makes mistakes.
func (tr *tour) bugs(t *testing.T) {
	t.Helper()
	for _, table := range []string{"rides", "stripe_events"} {
		tr.exec(t, `ALTER TABLE `+table+` RENAME TO no_`+table)
		defer tr.exec(t, `ALTER TABLE no_`+table+` RENAME TO `+table) // tests may share the database
	}
	tr.seeAll(t, tr.process, "internal", 500, web.CodeInternal)
	tr.see(t, tr.process, "", signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now()), 500, web.CodeInternal)
}

// reference reads the contract for people and for machines.
func (tr *tour) reference(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/openapi.yaml", "/docs", "/docs/docs.css", "/docs/docs.js", "/docs/rapidoc-min.js", "/problems/card_declined"} {
		page := tr.open(t, "GET", path, nil)
		if got := tr.open(t, "GET", path, http.Header{"If-None-Match": {page.header.Get("ETag")}}); page.status != 200 || got.status != 304 || got.body != "" {
			t.Errorf("%s: %d, then %d with %d bytes", path, page.status, got.status, len(got.body))
		}
		if head := tr.open(t, "HEAD", path, nil); head.status != 200 || head.header.Get("Etag") != page.header.Get("Etag") {
			t.Errorf("HEAD %s: %d %v", path, head.status, head.header)
		}
		tr.see(t, tr.process, "", call{method: "GET", path: path + "?x=1"}, 422, web.CodeInvalidParameters)
	}
	for _, path := range []string{"/docs/none.js", "/problems/none", "/problems/", "/docs/"} {
		tr.see(t, tr.process, "", call{method: "GET", path: path}, 404, web.CodeNotFound)
	}
	if page := tr.open(t, "GET", "/openapi.yaml", nil); page.body != string(api.Document()) {
		t.Error("/openapi.yaml is not the document")
	}
}

// open reads a page.
func (tr *tour) open(t *testing.T, method, path string, header http.Header) reply {
	t.Helper()
	response, err := tr.roundTrip(t, tr.newRequest(t.Context(), t, with(call{method: method, path: path, header: header})))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.Body.Close() != nil {
		t.Fatal(err)
	}
	return reply{status: response.StatusCode, header: response.Header, body: string(body)}
}
