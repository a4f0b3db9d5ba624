package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/client"
)

// apiKey is a secret that no error may show.
const apiKey = "rr_test_stub0123456789"

const chargedRide = `{"id":"ride_1","object":"ride","status":"charged","fare":{"amount":2350,"currency":"usd"},"charge":{"id":"ch_1","payment_intent":"pi_1"}}`

// A stub is an API that answers as it is told to, in order.
type stub struct {
	url string

	mu      sync.Mutex
	answers []http.HandlerFunc
	sent    []sent
	pauses  []time.Duration
}

// sent is a request that the stub got.
type sent struct {
	method, target, body string
	header               http.Header
}

func newStub(t *testing.T, answers ...http.HandlerFunc) *stub {
	t.Helper()
	s := &stub{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// ServeHTTP implements http.Handler.
func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	n := len(s.sent)
	s.sent = append(s.sent, sent{r.Method, r.URL.RequestURI(), string(body), r.Header})
	s.mu.Unlock()
	// net/http must not send anything again by itself.
	w.Header().Set("Connection", "close")
	if n >= len(s.answers) {
		http.Error(w, "the test has no answer left", http.StatusTeapot)
		return
	}
	s.answers[n](w, r)
}

// client returns a client of the stub, which notes pauses instead of making
// them.
func (s *stub) client(t *testing.T, change ...func(*client.Config)) *client.Client {
	t.Helper()
	config := client.Config{URL: s.url, APIKey: apiKey}
	for _, set := range change {
		set(&config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	c.OnPause(func(ctx context.Context, d time.Duration) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pauses = append(s.pauses, d)
		return ctx.Err()
	})
	return c
}

// requests returns how many requests the stub got.
func (s *stub) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

// ok answers with a ride.
func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_last")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintln(w, chargedRide)
}

// problem answers with a problem. retryAfter may be "".
func problem(status int, code client.Code, retryable bool, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"/problems/%s","title":"A title","status":%d,"detail":"A detail.","code":%q,"request_id":"req_1","retryable":%t,"safe_new_key":%t}`,
			code, status, code, retryable, status == http.StatusPaymentRequired)
	}
}

// reset closes the connection instead of an answer.
func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// half answers with half of a ride.
func half(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(len(chargedRide)))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, chargedRide[:len(chargedRide)/2])
	_ = http.NewResponseController(w).Flush()
	reset(w, r)
}

// page answers with a page of HTML.
func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html>a proxy's page</html>")
	}
}

func repeat(n int, answer http.HandlerFunc) []http.HandlerFunc {
	var all []http.HandlerFunc
	for range n {
		all = append(all, answer)
	}
	return all
}

// failed returns the *client.Error that err is, and its problem, which is empty
// if there is none.
func failed(t *testing.T, err error) (*client.Error, client.Problem) {
	t.Helper()
	failure, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%v is no *client.Error", err)
	}
	if strings.Contains(err.Error(), apiKey) {
		t.Errorf("the error shows the API key: %v", err)
	}
	var found client.Problem
	if problem, ok := errors.AsType[*client.Problem](err); ok {
		found = *problem
	}
	return failure, found
}

// newTLSStub returns a stub whose certificate nobody has signed.
func newTLSStub(t *testing.T, answers ...http.HandlerFunc) *stub {
	t.Helper()
	s := &stub{answers: answers}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}
