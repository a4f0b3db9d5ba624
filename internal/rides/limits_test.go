package rides

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/web"
)

// limited returns the harness's process with a limit for each account.
func (h *harness) limited(t *testing.T, rate limit.Rate) *process {
	t.Helper()
	config := h.config
	config.RateLimit, config.Metrics = rate, prometheus.NewRegistry()
	return h.serving(t, NewService(config).Handler())
}

// The limit comes after the authentication and before everything else of a
// request (contract: order of checks). A request that it refuses uses no key
// and proves nothing about one.
func TestAnAccountThatSendsTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	p := h.limited(t, limit.Rate{PerSecond: 0.01, Burst: 3})
	hail := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa}
	for i, c := range []call{hail, hail, {method: "GET", path: "/v1/rides", as: h.visa}} { // replays and reads count as well
		r := p.send(t, c)
		if r.status >= 300 {
			t.Fatalf("request %d is answered %d: %s", i+1, r.status, r.body)
		}
		want := fmt.Sprintf(`"account";r=%d;`, 2-i)
		if policy, left := r.header.Get("RateLimit-Policy"), r.header.Get("RateLimit"); policy != `"account";q=3;w=300` || !strings.HasPrefix(left, want) {
			t.Errorf("request %d is told %s and %s, want r=%d", i+1, policy, left, 2-i)
		}
	}
	for name, c := range map[string]call{
		"a new key":            {method: "POST", path: "/v1/rides", body: aRide, key: "new", as: h.visa},
		"a replay":             hail,
		"a key that is reused": {method: "POST", path: "/v1/rides", body: "{}", key: "k", as: h.visa},
		"no key, no JSON":      {method: "POST", path: "/v1/rides", body: "{", as: h.visa, header: http.Header{"Content-Type": {"text/plain"}}},
		"a list":               {method: "GET", path: "/v1/rides", as: h.visa},
		"a ride":               {method: "GET", path: "/v1/rides/ride_1", as: h.visa},
	} {
		r := p.send(t, c).must(t, http.StatusTooManyRequests, web.CodeRateLimited)
		if !r.problem.Retryable || r.problem.SafeNewKey {
			t.Errorf("%s: retryable %v, safe_new_key %v", name, r.problem.Retryable, r.problem.SafeNewKey)
		}
		// A slow machine has taken some of the 100 s meanwhile.
		if wait, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || wait < 50 || wait > 100 {
			t.Errorf("%s: Retry-After is %q, want the 100 s after which there is a token", name, r.header.Get("Retry-After"))
		}
		if !strings.HasPrefix(r.header.Get("RateLimit"), `"account";r=0;`) {
			t.Errorf("%s is told %q", name, r.header.Get("RateLimit"))
		}
	}
	for c, code := range map[*call]web.Code{
		{method: "GET", path: "/v1/rides?x=1", as: h.visa}: web.CodeInvalidParameters,
		{method: "GET", path: "/v1/rides"}:                 web.CodeUnauthenticated,
		{method: "GET", path: "/v1/trips", as: h.visa}:     web.CodeNotFound,
	} {
		if r := p.send(t, *c); r.problem.Code != code || r.header.Get("RateLimit") != "" {
			t.Errorf("%s is refused with %s and told %q, want %s", c.path, r.problem.Code, r.header.Get("RateLimit"), code)
		}
	}
	if r := p.send(t, call{method: "GET", path: "/v1/rides", as: h.second}); r.status != 200 {
		t.Errorf("another account is answered %d", r.status)
	}
	if got := number(t, h, `SELECT count(*) FROM idempotency_keys`); got != 1 {
		t.Errorf("there are %d keys, want 1", got)
	}
}

// 10,000 requests with API keys that nobody has reach Postgres a bounded number
// of times, whatever they say where they come from. Who shares their address is
// served if its key has worked before.
func TestBadAPIKeysReachPostgresABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	handler := NewService(h.config).Handler()
	ask := func(key accounts.APIKey, forwarded string) int {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/rides/%00", http.NoBody) // asks the database nothing
		request.Header.Set("Authorization", "Bearer "+key.Reveal())
		request.Header.Set("X-Forwarded-For", forwarded)
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		return recorder.Code
	}
	if status := ask(h.visa.APIKey, ""); status != http.StatusNotFound {
		t.Fatalf("a valid key is answered %d", status)
	}
	before, start := h.wire.Messages(), time.Now()
	var group sync.WaitGroup
	var unauthenticated, limited atomic.Int64
	for worker := range 20 {
		group.Go(func() {
			for i := range 500 {
				switch status := ask(accounts.NewAPIKey(accounts.NewAccountID(), false), fmt.Sprintf("198.51.%d.%d", worker, i%256)); status {
				case http.StatusUnauthorized:
					unauthenticated.Add(1)
				case http.StatusTooManyRequests:
					limited.Add(1)
				default:
					t.Errorf("a bad key is answered %d", status)
				}
				if i%100 == 99 {
					if status := ask(h.visa.APIKey, ""); status != http.StatusNotFound {
						t.Errorf("beside bad keys a valid one is answered %d", status)
					}
				}
			}
		})
	}
	group.Wait()
	most := 100 + 10*int(time.Since(start)/time.Second+1)
	if got := int(unauthenticated.Load()); got > most || got < 100 || limited.Load() != 10_000-unauthenticated.Load() {
		t.Fatalf("%d were looked up and %d refused without that, want at most %d", got, limited.Load(), most) // below, none might ever be refused
	}
	// A query is up to 5 messages on a connection that is new to it.
	if got := h.wire.Messages() - before; got > 5*most {
		t.Errorf("Postgres was sent %d messages, want at most %d", got, 5*most)
	}
	// Whatever look-ups have become free meanwhile are used up. Each tenth of a
	// second there is another one: sometimes just before the valid key comes, but
	// not always.
	refused := func() bool {
		return ask(accounts.NewAPIKey(accounts.NewAccountID(), false), "") == http.StatusTooManyRequests
	}
	status := 0
	for round := 0; round < 10 && status != http.StatusTooManyRequests; round++ {
		_, unused, err := accounts.Store{Pool: h.pool}.CreateKey(t.Context(), h.second.AccountID)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			group.Go(func() {
				for !refused() {
				}
			})
		}
		group.Wait()
		status = ask(unused, "")
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("keys that haven't worked before are answered %d", status)
	}
}

// Behind a proxy that is trusted, each client has a limit of its own.
func TestClientsBehindAProxyHaveTheirOwnLimits(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	config := h.config
	config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	p := h.serving(t, NewService(config).Handler())
	ask := func(client string) reply {
		return p.send(t, call{method: "GET", path: "/v1/rides", header: http.Header{
			"Authorization": {"Bearer " + accounts.NewAPIKey(h.visa.AccountID, false).Reveal()}, "X-Forwarded-For": {client},
		}})
	}
	for range 150 { // what is no API key costs nothing, and counts for nothing
		none := p.send(t, call{method: "GET", path: "/v1/rides", header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}})
		none.must(t, http.StatusUnauthorized, web.CodeUnauthenticated)
	}
	var group sync.WaitGroup
	var limited atomic.Int64
	for range 400 {
		group.Go(func() {
			r := ask("198.51.100.1")
			switch code := r.problem.Code; {
			case r.status == http.StatusUnauthorized && code == web.CodeUnauthenticated:
			case r.status != http.StatusTooManyRequests || code != web.CodeRateLimited || r.header.Get("Retry-After") != "1" || r.problem.SafeNewKey:
				t.Errorf("answered %d %s, told to wait %q", r.status, r.body, r.header.Get("Retry-After"))
			default:
				limited.Add(1)
			}
		})
	}
	group.Wait()
	if limited.Load() == 0 {
		t.Error("400 requests with unknown keys are all looked at")
	}
	ask("198.51.100.2").must(t, http.StatusUnauthorized, web.CodeUnauthenticated)
}
