package rides

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestTheKeyIsEchoedOnEveryAnswer: also on those that are given before the
// key's form is checked. The field comes back as it was sent, so that it can be
// sent again, and only if its form is right.
func TestTheKeyIsEchoedOnEveryAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	line := wire.NewPostgres()
	cut := h.startProcess(t, line)
	line.Plan(func(int, []byte) wire.Fault { return wire.Fault{Kind: wire.CutBefore} })
	hail := func(key string, as accounts.Credentials, body string) call {
		return call{method: "POST", path: "/v1/rides", key: key, as: as, body: body}
	}
	for name, test := range map[string]struct {
		process *process
		call    call
		status  int
		code    web.Code
		echo    string
	}{
		"401 without an API key":        {h.process, hail("k", accounts.Credentials{}, aRide), 401, web.CodeUnauthenticated, "k"},
		"401 with a quoted key":         {h.process, hail(`"k k"`, accounts.Credentials{}, aRide), 401, web.CodeUnauthenticated, `"k k"`},
		"422 of the query":              {h.process, call{method: "POST", path: "/v1/rides?dry=1", key: "k"}, 422, web.CodeInvalidParameters, "k"},
		"401 with a malformed key":      {h.process, hail(`"k`, accounts.Credentials{}, aRide), 401, web.CodeUnauthenticated, ""},
		"401 with a key of 256":         {h.process, hail(strings.Repeat("k", 256), accounts.Credentials{}, aRide), 401, web.CodeUnauthenticated, ""},
		"503 of the API key's look-up":  {cut, hail("k", h.visa, aRide), 503, web.CodeUnavailable, "k"},
		"400 of the body":               {h.process, hail("k", h.visa, `{`), 400, web.CodeInvalidJSON, "k"},
		"422 of the parameters":         {h.process, hail("k", h.visa, `{}`), 422, web.CodeInvalidParameters, "k"},
		"400 of the key":                {h.process, hail("k,k", h.visa, aRide), 400, web.CodeIdempotencyKeyInvalid, ""},
		"not on a route without a key":  {h.process, call{method: "GET", path: "/v1/rides", key: "k", as: h.visa}, 200, "", ""},
		"not on a path without a route": {h.process, call{method: "POST", path: "/v1/boats", key: "k", as: h.visa}, 404, web.CodeNotFound, ""},
		"not for a method without one":  {h.process, call{method: "DELETE", path: "/v1/rides", key: "k", as: h.visa}, 405, web.CodeMethodNotAllowed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := test.process.send(t, test.call).must(t, test.status, test.code)
			if got := r.header.Get("Idempotency-Key"); got != test.echo {
				t.Errorf("the key is echoed as %q, want %q", got, test.echo)
			}
		})
	}
}

// TestNothingIsInjectedByAKey gives the handler keys that no HTTP client can
// send.
func TestNothingIsInjectedByAKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, key := range []string{"k\r\nSet-Cookie: a=b", "\"k\r\nSet-Cookie: a=b\"", "k\x00", "k\x7f", "é"} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/rides", http.NoBody)
		request.Header.Set("Idempotency-Key", key)
		recorder := httptest.NewRecorder()
		h.service.Handler().ServeHTTP(recorder, request)
		if got, ok := recorder.Header()["Idempotency-Key"]; ok || recorder.Code != http.StatusUnauthorized {
			t.Errorf("%q: got %d and the echo %q", key, recorder.Code, got)
		}
	}
}
