package web

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// crowdedServer serves a route whose requests are refused because of a crowd.
func crowdedServer(t *testing.T) (*Router, *httptest.Server) {
	t.Helper()
	router := NewRouter(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	router.RefuseCrowds(func() error { return phases.ErrBusy })
	router.Post("/v1/boats/{id}", func(http.ResponseWriter, *Request, string, error) error {
		t.Error("a request in a crowd was served")
		return nil
	})
	router.Get("/v1/boats/{id}", func(w http.ResponseWriter, r *Request) error { return AnswerJSON(w, r, http.StatusOK, "boat") })
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	return router, server
}

// TestACrowdIsRefusedAtTheDoor: the refusal is that of a handler that returns
// ErrBusy, with the headers that every answer has.
func TestACrowdIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	router, server := crowdedServer(t)
	waits := map[int]bool{}
	for range 100 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/boats/boat_1?unknown=1", strings.NewReader("no JSON"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Idempotency-Key", `"a key"`)
		request.Header.Set("X-Traceability-Id", "trip-1")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		problem := problemOf(phases.ErrBusy).Problem
		problem.RequestID = response.Header.Get("Request-Id")
		if diff := cmp.Diff(string(problem.Encode()), string(body)); response.StatusCode != problem.Status || diff != "" {
			t.Fatalf("%d, -want +got:\n%s", response.StatusCode, diff)
		}
		wait, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		waits[wait] = true
		for name, want := range map[string]string{
			"Idempotency-Key": `"a key"`, "X-Traceability-Id": "trip-1", "Content-Type": ProblemType, "Cache-Control": "no-store",
			"X-Content-Type-Options": "nosniff", "Retry-After": strconv.Itoa(min(max(wait, 1), busySpread)),
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
	if len(waits) < 5 {
		t.Errorf("clients are to come back after %v seconds", waits)
	}
	server.Close() // a refusal is counted after it is answered
	registry := prometheus.NewRegistry()
	registry.MustRegister(router.metrics.requests.WithLabelValues("POST /v1/boats/{id}", "503", "unavailable"))
	if families, err := registry.Gather(); err != nil || families[0].GetMetric()[0].GetCounter().GetValue() != 100 {
		t.Errorf("of 100 refusals were counted %v, %v", families, err)
	}
}

// TestOnlyKeyedRequestsAreRefusedAtTheDoor: whatever else comes is answered as
// ever.
func TestOnlyKeyedRequestsAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	router, _ := crowdedServer(t)
	for request, want := range map[string]int{"GET /v1/boats/boat_1": 200, "POST /v1/boats": 404, "PUT /v1/boats/boat_1": 405} {
		method, path, _ := strings.Cut(request, " ")
		answer := httptest.NewRecorder()
		router.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if answer.Code != want {
			t.Errorf("%s was answered %d, want %d", request, answer.Code, want)
		}
	}
}

// TestAConnectionOutlivesARefusalAtTheDoor: a connection is used again unless
// there could be more to read than is worth it.
func TestAConnectionOutlivesARefusalAtTheDoor(t *testing.T) {
	t.Parallel()
	_, server := crowdedServer(t)
	for name, test := range map[string]struct {
		body   io.Reader
		closes bool
	}{
		"no body":                  {http.NoBody, false},
		"a body":                   {strings.NewReader(strings.Repeat("x", maxBody)), false},
		"a long body":              {strings.NewReader(strings.Repeat("x", maxBody+1)), true},
		"a body of unknown length": {io.MultiReader(strings.NewReader("{}")), true},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/boats/boat_1", test.body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable || response.Close != test.closes {
			t.Errorf("%s: %d, closes %t, want %t", name, response.StatusCode, response.Close, test.closes)
		}
	}
}
