package web

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQueryParameters(t *testing.T) {
	t.Parallel()
	ok := func(w http.ResponseWriter, r *Request) error { return AnswerJSON(w, r, http.StatusOK, nil) }
	router := NewRouter(slog.New(slog.DiscardHandler), nil)
	router.Post("/v1/boats", func(w http.ResponseWriter, r *Request, _ string, _ error) error { return ok(w, r) })
	router.PostUnkeyed("/v1/signals", ok)
	router.Get("/v1/boats", ok, QueryParam{"limit", func(value string) string {
		if value != "5" {
			return "Must be 5."
		}
		return ""
	}}, QueryParam{"after", func(string) string { return "" }})
	const (
		none = "Unknown parameter. This route takes none in its query string."
		two  = "Unknown parameter. This route takes limit, after."
	)
	malformed := []ParamFault{{"", "The query string is malformed."}}
	for asked, want := range map[string][]ParamFault{
		"GET /v1/boats":                      nil,
		"GET /v1/boats?":                     nil,
		"GET /v1/boats?limit=5&after=":       nil,
		"GET /v1/boats?limit=6":              {{"/limit", "Must be 5."}},
		"GET /v1/boats?limit=5&limit=5":      {{"/limit", "Must be given once."}},
		"GET /v1/boats?Limit=5&limit=6&=1":   {{"/", two}, {"/Limit", two}, {"/limit", "Must be 5."}},
		"GET /v1/boats?a~/b":                 {{"/a~0~1b", two}},
		"GET /v1/boats?%zz":                  malformed,
		"GET /v1/boats?limit=5;after=1":      malformed,
		"GET /v1/boats?%ff=1":                malformed,
		"HEAD /v1/boats?limit=6":             {{"/limit", "Must be 5."}},
		"POST /v1/boats?dry=1":               {{"/dry", none}},
		"POST /v1/signals?dry=1":             {{"/dry", none}},
		"POST /v1/signals":                   nil,
		"POST /v1/boats?limit=5":             {{"/limit", none}},
		"POST /v1/boats?":                    nil,
		"DELETE /v1/boats?dry=1":             nil, // the method is refused first
		"GET /v1/planes?dry=1":               nil,
		"POST /v1/boats?api_key=rr_test_abc": {{"/api_key", none}},
	} {
		method, target, _ := strings.Cut(asked, " ")
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody))
		var problem Problem
		_ = json.Unmarshal(recorder.Body.Bytes(), &problem)
		if diff := cmp.Diff(want, problem.Errors); diff != "" || (recorder.Code == 422) != (want != nil) {
			t.Errorf("%s: %d, faults (-want +got):\n%s", asked, recorder.Code, diff)
		}
	}
}
