package web

import (
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
)

// openPage asks for the page of a problem.
func openPage(t *testing.T, method, code string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	router := NewRouter(slog.New(slog.DiscardHandler), nil)
	router.Get("/problems/{code}", func(w http.ResponseWriter, r *Request) error {
		return AnswerProblemPage(w, r, r.PathValue("code"))
	})
	request := httptest.NewRequestWithContext(t.Context(), method, "/problems/"+code, http.NoBody)
	request.Header = header
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, request)
	return answer
}

// TestEveryProblemHasAPage: the type of each problem leads to a page that says
// what happened, what to do and which key comes next, with a real example.
func TestEveryProblemHasAPage(t *testing.T) {
	t.Parallel()
	for _, code := range documentedCodes(t) {
		problem := NewProblem(code) // panics for a code that the service lacks
		answer := openPage(t, http.MethodGet, string(code), nil)
		page := html.UnescapeString(answer.Body.String())
		if answer.Code != http.StatusOK || problem.Type != "/problems/"+string(code) {
			t.Errorf("%s: %d", problem.Type, answer.Code)
		}
		for _, text := range []string{"<h1>" + problem.Title + "</h1>", `"code": "` + string(code) + `"`, `<p class="key">`, "What happened", "What to do"} {
			if !strings.Contains(page, text) {
				t.Errorf("the page of %s lacks %q", code, text)
			}
		}
		if !problem.Retryable && strings.Contains(page, string(sameKey)) {
			t.Errorf("the page of %s asks for the same request, which has the same answer", code)
		}
		if strings.Contains(page, "<p></p>") || strings.Contains(page, `<p class="key"></p>`) || strings.Contains(page, "<script") {
			t.Errorf("the page of %s has an empty paragraph, or a script: %s", code, page)
		}
		if text, _, _ := strings.Cut(page, "<pre>"); strings.Contains(text, "`") || strings.Contains(text, "<code></code>") {
			t.Errorf("the page of %s shows names as they are in the source: %s", code, page)
		}
		if policy := answer.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'self';") {
			t.Errorf("the page may load %q", policy)
		}
	}
	if page := openPage(t, http.MethodGet, "card_declined", nil).Body.String(); !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.Contains(page, "<p>Read <code>detail</code>. Mostly") {
		t.Errorf("a field's name is not shown as such: %s", page)
	}
	if answer := openPage(t, http.MethodGet, "none", nil); answer.Code != http.StatusNotFound || answer.Header().Get("Content-Type") != ProblemType {
		t.Errorf("an unknown code: %d %s", answer.Code, answer.Body)
	}
}

// documentedCodes returns the codes in the OpenAPI document.
func documentedCodes(t *testing.T) (codes []Code) {
	t.Helper()
	schema, err := checker(t).Schema("ProblemCode")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range schema.Enum {
		codes = append(codes, Code(fmt.Sprint(code)))
	}
	slices.Sort(codes)
	return codes
}

func checker(t *testing.T) *apitest.Checker {
	t.Helper()
	c, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTheDocumentHasTheCodesOfTheTable: there is one list of codes. The
// document, the pages and the program have the same, and the same statuses.
func TestTheDocumentHasTheCodesOfTheTable(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(maps.Keys(kinds))
	if diff := cmp.Diff(want, documentedCodes(t)); diff != "" {
		t.Errorf("codes of the document (-table +document):\n%s", diff)
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(guides))); diff != "" {
		t.Errorf("codes of the pages (-table +pages):\n%s", diff)
	}
	answered := map[string]bool{}
	for _, item := range checker(t).Doc().Paths.Map() {
		for _, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				for _, code := range codesOf(response) {
					answered[code] = true
					if want := strconv.Itoa(NewProblem(Code(code)).Status); want != status {
						t.Errorf("%s has %s with %s, the table with %s", operation.OperationID, code, status, want)
					}
				}
			}
		}
	}
	if left := kindsLeft(answered); len(left) != 1 || !left[string(CodeMethodNotAllowed)] { // it is no answer of a route
		t.Errorf("no answer in the document has the codes %v", left)
	}
}

// kindsLeft returns the codes that are not in a set.
func kindsLeft(answered map[string]bool) map[string]bool {
	left := map[string]bool{}
	for code := range kinds {
		if !answered[string(code)] {
			left[string(code)] = true
		}
	}
	return left
}

// codesOf returns the codes that an answer may have.
func codesOf(response *openapi3.ResponseRef) (codes []string) {
	content := response.Value.Content[ProblemType]
	if content == nil {
		return nil
	}
	for _, part := range content.Schema.Value.AllOf {
		if part.Ref == "" {
			for _, code := range part.Value.Properties["code"].Value.Enum {
				codes = append(codes, fmt.Sprint(code))
			}
		}
	}
	return codes
}

// TestTheDocumentHasTheLimitsOfTheProgram: those that people read, and those
// that machines do.
func TestTheDocumentHasTheLimitsOfTheProgram(t *testing.T) {
	t.Parallel()
	limits, _ := checker(t).Doc().Extensions["x-limits"].(map[string]any)
	for name, want := range map[string]any{
		"bodyBytes": maxBody, "bodyTime": "PT10S", "problemErrors": maxFaults, "problemBytes": maxProblem + 64, "wait": "PT30S",
	} {
		if got := fmt.Sprint(limits[name]); got != fmt.Sprint(want) {
			t.Errorf("x-limits has %s for %s, want %v", got, name, want)
		}
	}
	if bodyTimeout != 10*time.Second || maxWait != 30*time.Second {
		t.Errorf("bodies have %s and waits %s, the document says 10 and 30 seconds", bodyTimeout, maxWait)
	}
	keys, _ := checker(t).Doc().Extensions["x-idempotency"].(map[string]any)
	if got := fmt.Sprint(keys["maxLength"]); got != strconv.Itoa(MaxKeyLength) {
		t.Errorf("x-idempotency has the maxLength %s, want %d", got, MaxKeyLength)
	}
	longest := `"` + strings.Repeat(`\"`, MaxKeyLength) + `"`
	if key, err := ParseKeyValue(longest); err != nil || len(key) != MaxKeyLength {
		t.Errorf("the longest field is read as %q: %v", key, err)
	}
	field := checker(t).Doc().Components.Parameters["IdempotencyKey"].Value.Schema.Value
	if field.MaxLength == nil || *field.MaxLength != uint64(len(longest)) {
		t.Errorf("the document does not let the field have %d characters, which the service takes", len(longest))
	}
}

// TestAFileIsSentOnce: a client that has it is told so, whatever a proxy has
// made of its tag.
func TestAFileIsSentOnce(t *testing.T) {
	t.Parallel()
	tag := openPage(t, http.MethodGet, "internal", nil).Header().Get("ETag")
	for given, status := range map[string]int{
		tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200, "": 200, strings.Trim(tag, `"`): 200,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			answer := openPage(t, method, "internal", http.Header{"If-None-Match": {given}})
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.Code != status || answer.Header().Get("ETag") != tag || answer.Header().Get("Cache-Control") != "public, max-age=300" {
				t.Errorf("%s with If-None-Match %q: %d %v", method, given, answer.Code, answer.Header())
			}
			if status == http.StatusNotModified && (len(body) > 0 || answer.Header().Get("Content-Length") != "") {
				t.Errorf("a 304 has a body of %d bytes", len(body))
			}
		}
	}
}
