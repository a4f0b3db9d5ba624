// Package examples_test runs the clients in other languages against the service.
package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A language is one that a client is written in.
type language struct {
	interpreter string
	// prepare puts the client into a folder, and the program that drives it,
	// and returns the program's file.
	prepare func(t *testing.T, dir string) string
}

func languages() map[string]language {
	return map[string]language{"Python": {"python3", preparePython}, "TypeScript": {"node", prepareTypeScript}}
}

// The drivers read what to do from their first argument, and print what came of
// it as JSON: {"ride"} or {"code","safe_new_key"} or {"error"}.
const (
	pythonDriver = `
import json, sys
from callback import verify_callback
from client import Problem, Rides
do = json.loads(sys.argv[1])
try:
    if "callback" in do:
        result = {"ride": verify_callback(do["headers"], do["callback"].encode(), *do["secrets"])["data"]}
    else:
        rides = Rides(do["url"], do["api_key"], initial=0.01, retries=do["retries"])
        ride = rides.hail({"lat": 37.7749, "lon": -122.4194}, {"lat": 37.8044, "lon": -122.2712}, do["key"], *do.get("callback_urls", []))
        assert rides.get(ride["id"])["id"] == ride["id"]
        if do.get("cancel"):
            ride = rides.cancel(ride["id"], do["key"] + "-cancel")
        result = {"ride": ride}
except Problem as e:
    result = {"code": e.problem["code"], "safe_new_key": e.problem["safe_new_key"]}
except Exception as e:
    result = {"error": str(e)}
print(json.dumps(result))
`
	nodeDriver = `
import { verifyCallback } from "./callback.mjs";
import { Problem, Rides } from "./client.mjs";
const todo = JSON.parse(process.argv[2]);
let result;
try {
  if (todo.callback !== undefined) {
    result = { ride: verifyCallback(new Headers(todo.headers), todo.callback, ...todo.secrets).data };
  } else {
    const rides = new Rides(todo.url, todo.api_key, { initial: 10, retries: todo.retries });
    let ride = await rides.hail({ lat: 37.7749, lon: -122.4194 }, { lat: 37.8044, lon: -122.2712 }, todo.key, ...(todo.callback_urls ?? []));
    if ((await rides.get(ride.id)).id !== ride.id) throw new Error("another ride was read");
    if (todo.cancel) ride = await rides.cancel(ride.id, todo.key + "-cancel");
    result = { ride };
  }
} catch (error) {
  result = error instanceof Problem ? { code: error.problem.code, safe_new_key: error.problem.safe_new_key } : { error: String(error) };
}
console.log(JSON.stringify(result));
`
)

func preparePython(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"client.py", "callback.py"} {
		write(t, filepath.Join(dir, name), read(t, name))
	}
	write(t, filepath.Join(dir, "driver.py"), []byte(pythonDriver))
	return "driver.py"
}

// TestTheClientsAreShort enough to be read before they are copied.
func TestTheClientsAreShort(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"client.py", "client.ts"} {
		if n := bytes.Count(read(t, name), []byte("\n")); n > 60 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

// prepareTypeScript takes the types away, as Node.js does since version 22; the
// older ones that distributions have can't.
func prepareTypeScript(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"client", "callback"} {
		result := api.Transform(string(read(t, name+".ts")), api.TransformOptions{Loader: api.LoaderTS, Target: api.ES2022})
		if len(result.Errors)+len(result.Warnings) > 0 {
			t.Fatalf("%s.ts: %v %v", name, result.Errors, result.Warnings)
		}
		write(t, filepath.Join(dir, name+".mjs"), result.Code)
	}
	write(t, filepath.Join(dir, "driver.mjs"), []byte(nodeDriver))
	return "driver.mjs"
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A result is what a driver prints.
type result struct {
	Ride struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	} `json:"ride"`
	Code       string `json:"code"`
	SafeNewKey bool   `json:"safe_new_key"`
	Error      string `json:"error"`
}

// A runner runs the client of a language.
type runner func(t *testing.T, todo map[string]any) result

// forEach runs a test in each language whose interpreter is there. In CI all of
// them must be.
func forEach(t *testing.T, test func(t *testing.T, run runner)) {
	t.Helper()
	for name, language := range languages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			interpreter, err := exec.LookPath(language.interpreter)
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("CI has no %s: %v", language.interpreter, err)
				}
				t.Skipf("there is no %s: %v", language.interpreter, err)
			}
			dir := t.TempDir()
			program := language.prepare(t, dir)
			test(t, func(t *testing.T, todo map[string]any) result {
				t.Helper()
				argument, err := json.Marshal(todo)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				command := exec.CommandContext(ctx, interpreter, program, string(argument)) //nolint:gosec // it is this test's
				command.Dir = dir
				var stderr bytes.Buffer
				command.Stderr = &stderr
				out, err := command.Output()
				var got result
				if err != nil || json.Unmarshal(out, &got) != nil {
					t.Fatalf("%v: %s%s", err, out, &stderr)
				}
				return got
			})
		})
	}
}

// A gateway stands between client and service, and answers the first requests
// as it is told to.
type gateway struct {
	service http.Handler
	faults  []func(w http.ResponseWriter, r *http.Request, service http.Handler)

	mu   sync.Mutex
	keys []string
	n    int
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	n := g.n
	g.n++
	if r.Method == http.MethodPost {
		g.keys = append(g.keys, r.Header.Get("Idempotency-Key"))
	}
	g.mu.Unlock()
	w.Header().Set("Connection", "close")
	if n < len(g.faults) {
		g.faults[n](w, r, g.service)
		return
	}
	g.service.ServeHTTP(w, r)
}

func before(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

func after(w http.ResponseWriter, r *http.Request, service http.Handler) {
	service.ServeHTTP(httptest.NewRecorder(), r)
	before(w, r, service)
}

func half(w http.ResponseWriter, r *http.Request, service http.Handler) {
	recorder := httptest.NewRecorder()
	service.ServeHTTP(recorder, r)
	w.Header().Set("Content-Length", strconv.Itoa(recorder.Body.Len()))
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()[:recorder.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	before(w, r, service)
}

func page(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprint(w, "<html>")
}

func busy(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, `{"status":503,"code":"unavailable","detail":"Wait.","retryable":true,"safe_new_key":false}`)
}

func serve(t *testing.T, g *gateway) string {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server.URL
}

func TestARideIsChargedOnceThroughAnyTrouble(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		g := &gateway{service: service.Handler, faults: []func(http.ResponseWriter, *http.Request, http.Handler){before, page, after, busy, half}}
		key := t.Name()
		start := time.Now()
		got := run(t, map[string]any{"url": serve(t, g), "api_key": service.APIKey, "key": key, "retries": 8, "cancel": true})
		if got.Ride.Status != "canceled" || service.Stripe.Charges()[got.Ride.ID] != 1 {
			t.Errorf("got %+v, and %d charges", got, service.Stripe.Charges()[got.Ride.ID])
		}
		if want := strings.Repeat(key+" ", 6) + key + "-cancel"; strings.Join(g.keys, " ") != want {
			t.Errorf("the keys are %q", g.keys)
		}
		if time.Since(start) < time.Second {
			t.Error("Retry-After is not obeyed")
		}
	})
}

func TestADeclinedCardIsAskedOnce(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.Declined402, Times: -1})
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		g := &gateway{service: service.Handler}
		got := run(t, map[string]any{"url": serve(t, g), "api_key": service.APIKey, "key": t.Name(), "retries": 8})
		if got.Code != "card_declined" || !got.SafeNewKey || g.n != 1 {
			t.Errorf("after %d requests: %+v", g.n, got)
		}
	})
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		g := &gateway{service: http.NotFoundHandler()}
		for range 10 {
			g.faults = append(g.faults, page)
		}
		got := run(t, map[string]any{"url": serve(t, g), "api_key": "rr_test_x", "key": "k", "retries": 2})
		if g.n != 3 || got.SafeNewKey || got.Ride.ID != "" {
			t.Errorf("after %d requests: %+v", g.n, got)
		}
	})
}

// A redirect would take the API key to another server.
func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		other := &gateway{service: http.NotFoundHandler()}
		elsewhere := serve(t, other)
		g := &gateway{service: http.RedirectHandler(elsewhere, http.StatusTemporaryRedirect)}
		got := run(t, map[string]any{"url": serve(t, g), "api_key": "rr_test_x", "key": "k", "retries": 2})
		if g.n != 1 || other.n != 0 || got.Ride.ID != "" {
			t.Errorf("after %d requests, and %d elsewhere: %+v", g.n, other.n, got)
		}
	})
}

func TestOnlyGenuineCallbacksAreRead(t *testing.T) {
	t.Parallel()
	const secret, former = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	const body = `{"type":"ride.charged","timestamp":"2026-01-02T03:04:05.000000Z","data":{"id":"ride_1","status":"charged"}}`
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(t *testing.T, at time.Time) map[string]string {
		t.Helper()
		signature, err := webhook.Sign("msg_1", at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"webhook-id": "msg_1", "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": "v1,abc " + signature}
	}
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		for name, test := range map[string]struct {
			headers map[string]string
			body    string
			secrets []string
			genuine bool
		}{
			"genuine":        {signed(t, time.Now()), body, []string{secret}, true},
			"rotated":        {signed(t, time.Now()), body, []string{former, secret}, true},
			"another secret": {signed(t, time.Now()), body, []string{former}, false},
			"another body":   {signed(t, time.Now()), body + " ", []string{secret}, false},
			"old":            {signed(t, time.Now().Add(-time.Hour)), body, []string{secret}, false},
			"of the future":  {signed(t, time.Now().Add(time.Hour)), body, []string{secret}, false},
			"no headers":     {map[string]string{}, body, []string{secret}, false},
			"no secret":      {signed(t, time.Now()), body, []string{"whsec_"}, false},
		} {
			got := run(t, map[string]any{"callback": test.body, "headers": test.headers, "secrets": test.secrets})
			if (got.Ride.ID == "ride_1") != test.genuine || (got.Error == "") != test.genuine {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}
