package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// ask makes one request to a router that has the given handlers, and returns
// the answer and the line in the log.
func ask(t *testing.T, method, path string, get, post Handler) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	var log bytes.Buffer
	router := NewRouter(slog.New(slog.NewJSONHandler(&log, nil)), nil)
	if get != nil {
		router.Get("/v1/boats/{id}", get)
	}
	if post != nil {
		router.Post("/v1/boats/{id}/cruises/{cruise}", func(w http.ResponseWriter, r *Request, _ string, _ error) error {
			return post(w, r)
		})
	}
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("the log has %q: %v", &log, err)
	}
	return recorder, line
}

func TestEveryAnswerHasTheCommonHeaders(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"/v1/boats/boat_1": 200, "/v1/boats": 404} {
		answered, line := ask(t, "GET", path, func(w http.ResponseWriter, r *Request) error {
			return AnswerJSON(w, r, http.StatusOK, r.ID)
		}, nil)
		header := answered.Header()
		if answered.Code != want || header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d with %v", path, answered.Code, header)
		}
		if id := header.Get("Request-Id"); !regexp.MustCompile(`^req_[0-9a-f]{32}$`).MatchString(id) || !strings.Contains(answered.Body.String(), id) {
			t.Errorf("%s: the request's id is %q, the body %s", path, id, answered.Body)
		}
		if line["request_id"] != header.Get("Request-Id") || line["msg"] != "request" || line["level"] != "INFO" || line["path"] != path {
			t.Errorf("%s: the log says %v", path, line)
		}
	}
}

// TestTheRouterAnswersOptionsOfEverything: net/http would do that by itself.
func TestTheRouterAnswersOptionsOfEverything(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.Config = cli.NewServer(NewRouter(slog.New(slog.DiscardHandler), nil), slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Path = "*"
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusNotFound || response.Header.Get("Request-Id") == "" || response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answered %s with %v", response.Status, response.Header)
	}
}

func TestARequestKnowsItsRoute(t *testing.T) {
	t.Parallel()
	const path = "/v1/boats/%62oat_1/cruises/2" // %62 is b
	var hash [32]byte
	answered, _ := ask(t, "POST", path, nil, func(w http.ResponseWriter, r *Request) error {
		want := []PathID{{"id", "boat_1"}, {"cruise", "2"}}
		if diff := cmp.Diff(want, r.PathIDs()); diff != "" || r.Pattern != "/v1/boats/{id}/cruises/{cruise}" {
			t.Errorf("the route is %s, its ids are (-want +got):\n%s", r.Pattern, diff)
		}
		hash = r.Hash([]byte("{}"))
		return AnswerJSON(w, r, http.StatusOK, nil)
	})
	if want := requestHash("POST", "/v1/boats/{id}/cruises/{cruise}", []string{"boat_1", "2"}, []byte("{}")); answered.Code != 200 || hash != want {
		t.Errorf("got %d and the hash %x, want %x", answered.Code, hash, want)
	}
}

func TestAPanicCostsOneRequest(t *testing.T) {
	t.Parallel()
	answered, line := ask(t, "GET", "/v1/boats/boat_1", func(http.ResponseWriter, *Request) error { panic("secret") }, nil)
	if answered.Code != 500 || !strings.Contains(answered.Body.String(), `"code":"internal"`) || strings.Contains(answered.Body.String(), "secret") {
		t.Errorf("got %d %s", answered.Code, answered.Body)
	}
	stack, _ := line["stack"].(string)
	if line["level"] != "ERROR" || line["error"] != "panic: secret" || !strings.Contains(stack, "TestAPanicCostsOneRequest") {
		t.Errorf("the log says %v", line)
	}
}

func TestAFailureIsLoggedWithItsCause(t *testing.T) {
	t.Parallel()
	answered, line := ask(t, "GET", "/v1/boats/boat_1", func(_ http.ResponseWriter, r *Request) error {
		r.RecordAccount("acct_1")
		return errors.Join(phases.ErrUnavailable, errors.New("pool is empty"))
	}, nil)
	if answered.Code != 503 || answered.Header().Get("Retry-After") == "" {
		t.Errorf("got %d with %v", answered.Code, answered.Header())
	}
	if text, _ := line["error"].(string); line["level"] != "WARN" || line["code"] != "unavailable" || line["account"] != "acct_1" || !strings.Contains(text, "pool is empty") {
		t.Errorf("the log says %v", line)
	}
	_, line = ask(t, "GET", "/v1/boats/boat_1", func(http.ResponseWriter, *Request) error {
		return NewProblemError(CodeNotFound, errors.New("wrong account"))
	}, nil)
	if _, logged := line["error"]; logged || line["level"] != "INFO" || line["code"] != "not_found" {
		t.Errorf("the log says %v", line)
	}
	for _, code := range []Code{CodeUnauthenticated, CodeSignatureInvalid} {
		_, line = ask(t, "GET", "/v1/boats/boat_1", func(http.ResponseWriter, *Request) error {
			return NewProblemError(code, errors.New("disabled account"))
		}, nil)
		if line["error"] != string(code)+": disabled account" || line["level"] != "INFO" {
			t.Errorf("the log says %v", line)
		}
	}
}

// In a flood one refusal a second is logged.
func TestAFloodIsNotLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		router := NewRouter(slog.New(slog.NewJSONHandler(&log, nil)), nil)
		router.Get("/v1/boats", func(http.ResponseWriter, *Request) error { return fmt.Errorf("%w here", phases.ErrBusy) })
		for range 100 {
			answered := httptest.NewRecorder()
			router.ServeHTTP(answered, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/boats", http.NoBody))
			if answered.Code != http.StatusServiceUnavailable {
				t.Fatalf("got %d", answered.Code)
			}
			time.Sleep(25 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("in 2.5 seconds %d of 100 refusals were logged, want 3", n)
		}
	})
}

func TestMethodsOfAPath(t *testing.T) {
	t.Parallel()
	ok := func(w http.ResponseWriter, r *Request) error { return AnswerJSON(w, r, http.StatusOK, nil) }
	for request, want := range map[string]struct {
		status int
		allow  string
	}{
		"GET /v1/boats/boat_1":               {200, ""},
		"HEAD /v1/boats/boat_1":              {200, ""},
		"POST /v1/boats/boat_1":              {405, "GET, HEAD"},
		"BREW /v1/boats/boat_1":              {405, "GET, HEAD"},
		"GET /v1/boats/boat_1/cruises/2":     {405, "POST"},
		"GET /v1/boats/boat_1/cruises":       {404, ""},
		"BREW /v1/boats/boat_1/cruises":      {404, ""},
		"GET /v1/boats/":                     {404, ""},
		"GET /v1/boats/boat_1/":              {404, ""},
		"GET /v1/%62oats/%62oat_1":           {200, ""},
		"BREW /v1/%62oats/boat_1":            {405, "GET, HEAD"},
		"GET /v1/boats%2fboat_1":             {404, ""},
		"GET /v1/%62oats%2Fboat_1":           {404, ""},
		"POST /v1/boats/a%2Fb/cruises/2":     {200, ""},
		"DELETE /v1/boats/a%2Fb/cruises/2":   {405, "POST"},
		"DELETE /v1/boats/a%2Fb/cruises/2/3": {404, ""},
	} {
		method, path, _ := strings.Cut(request, " ")
		answered, line := ask(t, method, path, ok, ok)
		if answered.Code != want.status || answered.Header().Get("Allow") != want.allow {
			t.Errorf("%s: got %d, Allow %q, want %+v", request, answered.Code, answered.Header().Get("Allow"), want)
		}
		if status, _ := line["status"].(float64); int(status) != answered.Code || line["method"] != method {
			t.Errorf("%s: the log says %v", request, line)
		}
	}
}

// TestWhatIsLoggedOfARequestIsBounded: or clients could fill the disk.
func TestWhatIsLoggedOfARequestIsBounded(t *testing.T) {
	t.Parallel()
	_, line := ask(t, strings.Repeat("X", 5000), "/"+strings.Repeat("é", 5000), nil, nil)
	want := map[string]any{"method": strings.Repeat("X", 197) + "…", "path": "/" + strings.Repeat("é", 98) + "…"}
	for name, text := range want {
		if line[name] != text {
			t.Errorf("%s is logged as %v, want %s", name, line[name], text)
		}
	}
	if _, line := ask(t, "GET", "/"+strings.Repeat("a", 199), nil, nil); line["path"] != "/"+strings.Repeat("a", 199) {
		t.Errorf("a path of 200 bytes is logged as %v", line["path"])
	}
}

func TestAStoredAnswerIsWrittenAsItIs(t *testing.T) {
	t.Parallel()
	stored := phases.Answer{
		Status: 402, Headers: map[string]string{"Content-Type": ProblemType, "Location": "/x"},
		Body: []byte(`{ "code": "card_declined" }`),
	}
	for _, replayed := range []bool{false, true} {
		answered, line := ask(t, "GET", "/v1/boats/boat_1", func(w http.ResponseWriter, r *Request) error {
			AnswerResult(w, r, phases.Result{Answer: stored, Replayed: replayed})
			return nil
		}, nil)
		header := answered.Header()
		if answered.Code != 402 || answered.Body.String() != string(stored.Body) || header.Get("Content-Type") != ProblemType || header.Get("Location") != "/x" {
			t.Errorf("got %d %s with %v", answered.Code, answered.Body, header)
		}
		if (header.Get("Idempotent-Replayed") == "true") != replayed || line["code"] != "card_declined" {
			t.Errorf("replayed %t: %v, the log says %v", replayed, header, line)
		}
	}
}
