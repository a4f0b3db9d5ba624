package rides

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// offline is the whole API with a database that cannot be reached. The first
// query of a request fails, and it is answered 503; so the answer shows how the
// request was read, at the speed that a fuzzer needs.
type offline struct {
	handler http.Handler
	key     accounts.APIKey // the only one that is valid
}

func newOffline(f *testing.F) *offline {
	f.Helper()
	config, err := pgxpool.ParseConfig("postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	if err != nil {
		f.Fatal(err)
	}
	config.ConnConfig.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("there is no database")
	}
	pool, err := pgxpool.NewWithConfig(f.Context(), config)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(pool.Close)
	stripe, err := payments.NewStripe(payments.Config{Key: stripeKey, Timeout: time.Second})
	if err != nil {
		f.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	engine, err := phases.NewEngine(f.Context(), phases.Config{
		Pool: pool, Flows: Flows(stripe, accounts.Store{Pool: pool}), Realm: stripe.Realm, Lease: 2 * time.Second, CallTimeout: time.Second,
		Backoff: phases.Backoff{Initial: time.Second, Max: time.Minute}, MaxAttempts: 1, Logger: quiet,
	})
	if err != nil {
		f.Fatal(err)
	}
	o := &offline{key: accounts.NewAPIKey("acct_0123456789ABCDEF", false)}
	service := NewService(Config{Pool: pool, Engine: engine, Stripe: stripe, MaxFare: 50_000, Logger: quiet})
	service.identify = o.identifyBy(service.identify)
	service.rerunTimeout = time.Nanosecond
	o.handler = service.Handler()
	return o
}

// identifyBy is the real authentication, except that it needs no database to
// find the one valid key, and that each request comes from another sender, who
// may make mistakes.
func (o *offline) identifyBy(
	identify func(context.Context, http.Header, string) (accounts.Principal, error),
) func(context.Context, http.Header, string) (accounts.Principal, error) {
	return func(ctx context.Context, header http.Header, _ string) (accounts.Principal, error) {
		ended, cancel := context.WithCancel(ctx) // so that it doesn't wait for the database to come back
		cancel()
		who, err := identify(ended, header, rand.Text())
		key, _ := accounts.BearerKey(header.Get("Authorization"))
		if errors.Is(err, phases.ErrUnavailable) && key.Hash() == o.key.Hash() {
			return accounts.Principal{AccountID: key.AccountID()}, nil
		}
		return who, err
	}
}

// serve answers one request, and checks what every answer must have.
func (o *offline) serve(t *testing.T, request *http.Request) (int, web.Problem, http.Header) {
	t.Helper()
	recorder := httptest.NewRecorder()
	defer func() {
		// A body that ends too early is that of a client that is gone.
		if value := recover(); value != nil && (value != http.ErrAbortHandler || recorder.Body.Len() > 0) { //nolint:errorlint // a panic's value is not wrapped
			panic(value)
		}
	}()
	o.handler.ServeHTTP(recorder, request.WithContext(t.Context()))
	var problem web.Problem
	if err := json.Unmarshal(recorder.Body.Bytes(), &problem); err != nil {
		t.Fatalf("answered %d with %q: %v", recorder.Code, recorder.Body, err)
	}
	switch {
	case recorder.Code < 400 || recorder.Code == http.StatusInternalServerError:
		t.Fatalf("answered %d: %s", recorder.Code, recorder.Body)
	case problem.Status != recorder.Code || web.NewProblem(problem.Code).Status != recorder.Code || !strings.HasPrefix(problem.RequestID, "req_"):
		t.Fatalf("answered %d with the problem %s", recorder.Code, recorder.Body)
	case recorder.Code == http.StatusServiceUnavailable && recorder.Header().Get("Retry-After") == "":
		t.Fatal("503 without Retry-After")
	}
	return recorder.Code, problem, recorder.Header()
}

// FuzzCreateRide predicts each refusal of POST /v1/rides in the order that the
// contract fixes.
func FuzzCreateRide(f *testing.F) {
	api := newOffline(f)
	for _, body := range []string{
		aRide, ``, `{}`, `null`, `[]`, `{"a":1,"a":2}`, `{"a":"` + "\x00\xff" + `"}`, `{"origin":{"lat":1e999,"lon":"\ud800"}}`,
		strings.Repeat(" ", mostBytes-2) + "{}", strings.Repeat(" ", mostBytes) + "{}", strings.Repeat("[", mostBytes),
	} {
		f.Add([]byte(body), "application/json", "k", "respond-async")
	}
	f.Add([]byte(aRide), "application/json; charset=utf-8", `"k"`, "")
	f.Add([]byte(aRide), "text/plain", "", `a="b, respond-async"`)
	f.Add([]byte(aRide), "application/json;", `"k";a=1`, "wait=1")
	f.Fuzz(func(t *testing.T, body []byte, contentType, key, prefer string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/rides", bytes.NewReader(body))
		request.Header = http.Header{
			"Authorization": {"Bearer " + api.key.Reveal()}, "Content-Type": {contentType},
			"Idempotency-Key": {key}, "Prefer": {prefer},
		}
		_, problem, header := api.serve(t, request)
		if want := refusalOf(body, contentType, key); problem.Code != want {
			t.Fatalf("%.200q of %q with the key %q is %s, want %s", body, contentType, key, problem.Code, want)
		}
		echo := strings.Trim(key, " \t")
		if _, err := web.ParseIdempotencyKey(http.Header{"Idempotency-Key": {key}}); err != nil {
			echo = ""
		}
		if got := header.Get("Idempotency-Key"); got != echo {
			t.Fatalf("the key %q is echoed as %q", key, got)
		}
	})
}

func refusalOf(body []byte, contentType, key string) web.Code {
	media, more, err := mime.ParseMediaType(contentType)
	if charset := more["charset"]; err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return web.CodeUnsupportedMediaType
	}
	if len(body) > mostBytes {
		return web.CodeBodyTooLarge
	}
	canonical, err := web.Canonical(body)
	if err != nil || !bytes.HasPrefix(canonical, []byte("{")) {
		return web.CodeInvalidJSON
	}
	if _, err := web.ParseIdempotencyKey(http.Header{"Idempotency-Key": {key}}); err != nil {
		return web.CodeIdempotencyKeyInvalid
	}
	return web.CodeUnavailable
}

// FuzzHTTP reads arbitrary bytes as a server does.
func FuzzHTTP(f *testing.F) {
	api := newOffline(f)
	const mark = "KEY"
	for _, seed := range []string{
		"POST /v1/rides HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/rides HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nIdempotency-Key: k\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"POST /v1/rides HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n\r\n",
		"GET /v1/rides?limit=5&starting_after=ride_1 HTTP/1.1\r\nHost: a\r\nAuthorization: bearer KEY\r\n\r\n",
		"GET /v1/rides/ride_1 HTTP/1.0\r\nAuthorization: Bearer KEY\r\n\r\n",
		"GET /v1/rides/ride_1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /v1/rides HTTP/1.1\r\nHost: a\r\nAuthorization: Basic KEY\r\n\r\n",
		"GET /v1/rides/%00%ff%2e%2e HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n\r\n",
		"GET /v1/rides/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer rr_test_\r\n\r\n",
		"GET //v1//rides/../x HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"BREW /coffee HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /v1/rides HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /v1/rides%2Fx HTTP/1.1\r\nHost: a\r\n\r\n",
		"DELETE /v1/rides HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer KEY\r\n\r\n", "PATCH http://b/v1/rides/ HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.ReplaceAll(raw, []byte(mark), []byte(api.key.Reveal()))
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		status, problem, header := api.serve(t, request)
		if (status == http.StatusMethodNotAllowed) != (header.Get("Allow") != "") || (status == http.StatusUnauthorized) != (header.Get("WWW-Authenticate") != "") {
			t.Fatalf("%s with the headers %v", problem.Code, header)
		}
		known := strings.Contains(request.Header.Get("Authorization"), api.key.Reveal())
		early := status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusUnauthorized ||
			status == http.StatusUnprocessableEntity && request.URL.RawQuery != ""
		if !early && !known {
			t.Fatalf("%s without the API key: %q", problem.Code, raw)
		}
	})
}

// FuzzRideQuery checks how the query of a list is read.
func FuzzRideQuery(f *testing.F) {
	api := newOffline(f)
	for _, seed := range []string{
		"", "limit=1", "limit=100", "limit=0", "limit=101", "limit=%2B5", "limit=007", "limit=1&limit=2", "limit=9999999999999999999",
		"starting_after=ride_1&idempotency_key=a+b", "starting_after=", "starting_after=%00", "idempotency_key=%ff", "limti=1", "a=%zz", ";", "&&", "=", "a~/b=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		// Without an API key, a query that is accepted is answered 401.
		status, problem, _ := api.serve(t, &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: "/v1/rides", RawQuery: raw}, Body: http.NoBody, Header: http.Header{},
		})
		faults := problem.Errors
		if given, err := url.ParseQuery(raw); status == http.StatusUnauthorized {
			if err != nil {
				t.Fatalf("%q is accepted, although %v", raw, err)
			}
			checkQuery(t, newRideQuery(given), given)
		} else if status != http.StatusUnprocessableEntity || len(faults) == 0 {
			t.Fatalf("%q is answered %d with the faults %v", raw, status, faults)
		}
		for i := range faults {
			if i > 0 && faults[i-1].Pointer >= faults[i].Pointer {
				t.Fatalf("%q: not sorted, or two faults at one parameter: %v", raw, faults)
			}
		}
	})
}

// checkQuery checks that what was read is what was given, no less and no more.
func checkQuery(t *testing.T, got rideQuery, given url.Values) {
	t.Helper()
	if got.limit < 1 || got.limit > 100 || !given.Has("limit") && got.limit != 20 {
		t.Fatalf("%v gives the limit %d", given, got.limit)
	}
	for name, values := range given {
		value := map[string]string{"starting_after": got.after, "idempotency_key": got.key}[name]
		switch {
		case len(values) != 1:
			t.Fatalf("%s was given %d times and accepted", name, len(values))
		case name == "limit":
			if !strings.HasSuffix(values[0], strconv.Itoa(got.limit)) || strings.Trim(strings.TrimSuffix(values[0], strconv.Itoa(got.limit)), "+0") != "" {
				t.Fatalf("the limit %q was read as %d", values[0], got.limit)
			}
		case value != values[0] || value == "" || len(value) > 255 || strings.ContainsFunc(value, func(c rune) bool { return c < 0x20 || c > 0x7e }):
			t.Fatalf("%s %q was read as %q", name, values[0], value)
		}
	}
}
