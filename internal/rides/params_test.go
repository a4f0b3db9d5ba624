package rides

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/internal/web/webtest"
)

const (
	oakland   = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}`
	missing   = "Required, but missing."
	unknown   = "Unknown field. Remove it; names are case-sensitive."
	noNumber  = "Must be a number."
	noPoint   = "Must be an object with the numbers lat and lon."
	notFinite = "Must be a finite number."
	badLat    = "Must be between -90 and 90 degrees."
	badLon    = "Must be between -180 and 180 degrees."
	tooFar    = "Must be nearer to the origin: a ride may cost at most 50000 cents."
	noHTTPS   = "Must be an absolute https URL with a host."
)

// A refusal of parameters has no more than 8 KiB, however long the names are
// that it points at.
func TestNoRefusalOfParametersIsLargerThanPromised(t *testing.T) {
	t.Parallel()
	largest := 0
	for length := range 300 {
		faults := slices.Repeat([]web.ParamFault{{Pointer: "/" + strings.Repeat("\x01", length), Detail: unknown}}, 30)
		problem := invalidNew(faults).Problem
		problem.RequestID = "req_" + strings.Repeat("0", 32)
		largest = max(largest, len(problem.Encode()))
		if !strings.HasSuffix(problem.Detail, " of 30 faults; correct them all. The Idempotency-Key was not used up; send it again or a new one.") {
			t.Fatalf("the detail is %s", problem.Detail)
		}
	}
	if largest > 8<<10 || largest < 8<<10-100 {
		t.Errorf("the largest refusal has %d bytes, want 8,192 or slightly less", largest)
	}
}

func TestParseParamsReadsAValidRide(t *testing.T) {
	t.Parallel()
	hook := "https://example.com/hook"
	want := Params{Origin: Point{37.7749, -122.4194}, Target: Point{37.8044, -122.2712}}
	wantHook := want
	wantHook.CallbackURL = &hook
	for name, c := range map[string]struct {
		doc  string
		want Params
	}{
		"without a callback":    {oakland + `}`, want},
		"with null as callback": {oakland + `,"callback_url":null}`, want},
		"with a callback":       {oakland + `,"callback_url":"https://example.com/hook"}`, wantHook},
		"with the corners of the world": {
			`{"origin":{"lat":90,"lon":180},"target":{"lat":9e1,"lon":-180.0}}`,
			Params{Origin: Point{90, 180}, Target: Point{90, -180}},
		},
		"with minus zero": {
			`{"origin":{"lat":-0,"lon":-0.0},"target":{"lat":0,"lon":1e-400}}`, Params{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, faults := parseRide(t, c.doc)
			if diff := cmp.Diff(c.want, got); diff != "" || len(faults) > 0 {
				t.Errorf("faults %v, parameters (-want +got):\n%s", faults, diff)
			}
		})
	}
}

func TestParseParamsFindsEveryFault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		doc  string
		want []fault
	}{
		"an empty object": {`{}`, []fault{{"/origin", missing}, {"/target", missing}}},
		"empty points": {`{"origin":{},"target":{}}`, []fault{
			{"/origin/lat", missing}, {"/origin/lon", missing}, {"/target/lat", missing}, {"/target/lon", missing},
		}},
		"null is not missing": {`{"origin":null,"target":{"lat":null,"lon":0}}`, []fault{
			{"/origin", noPoint}, {"/target/lat", noNumber},
		}},
		"points of another type": {`{"origin":[37.7,-122.4],"target":"Oakland"}`, []fault{
			{"/origin", noPoint}, {"/target", noPoint},
		}},
		"coordinates of another type": {
			`{"origin":{"lat":"37.7749","lon":true},"target":{"lat":{},"lon":[1]}}`, []fault{
				{"/origin/lat", noNumber}, {"/origin/lon", noNumber}, {"/target/lat", noNumber}, {"/target/lon", noNumber},
			},
		},
		"coordinates beyond float64": {`{"origin":{"lat":1e999,"lon":-1e999},"target":{"lat":1,"lon":1e9999}}`, []fault{
			{"/origin/lat", notFinite}, {"/origin/lon", notFinite}, {"/target/lon", notFinite},
		}},
		"coordinates off the globe": {
			`{"origin":{"lat":90.00000000000001,"lon":180.00000000000003},"target":{"lat":-90.1,"lon":-1e300}}`, []fault{
				{"/origin/lat", badLat}, {"/origin/lon", badLon}, {"/target/lat", badLat}, {"/target/lon", badLon},
			},
		},
		"fields that the server sets": {
			oakland + `,"amount":1,"status":"charged","id":"ride_1","account_id":"acct_1","charge":null,"livemode":true}`, []fault{
				{"/account_id", unknown},
				{"/amount", unknown},
				{"/charge", unknown},
				{"/id", unknown},
				{"/livemode", unknown},
				{"/status", unknown},
			},
		},
		"names in another case": {
			`{"Origin":{"lat":1,"lon":1},"target":{"LAT":1,"lat":1,"Lon":1},"callback_URL":"https://a.b"}`, []fault{
				{"/Origin", unknown},
				{"/callback_URL", unknown},
				{"/origin", missing},
				{"/target/LAT", unknown},
				{"/target/Lon", unknown},
				{"/target/lon", missing},
			},
		},
		"names that need escaping in a pointer": {
			oakland + `,"a/b":1,"c~d":2,"":3,"~1":4,"é\u0000":5}`, []fault{
				{"/", unknown}, {"/a~1b", unknown}, {"/c~0d", unknown}, {"/é\x00", unknown}, {"/~01", unknown},
			},
		},
		"an origin missing, so no fare": {
			`{"target":{"lat":0,"lon":90}}`, []fault{{"/origin", missing}},
		},
		"a target missing, so no fare": {
			`{"origin":{"lat":0,"lon":90}}`, []fault{{"/target", missing}},
		},
		"a ride that is too long": {
			`{"origin":{"lat":0,"lon":0},"target":{"lat":0,"lon":90}}`, []fault{{"/target", tooFar}},
		},
		"faults of every kind at once": {
			`{"callback_url":"http://example.com","extra":1,"origin":{"lat":0,"lon":0,"alt":9},"target":{"lat":0,"lon":90}}`,
			[]fault{
				{"/callback_url", noHTTPS}, {"/extra", unknown}, {"/origin/alt", unknown}, {"/target", tooFar},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, faults := parseRide(t, c.doc)
			slices.SortFunc(c.want, func(a, b fault) int { return strings.Compare(a.Pointer, b.Pointer) })
			if diff := cmp.Diff(c.want, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseParamsChecksTheCallbackURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		`"https://example.com"`:        "",
		`1`:                            "Must be a string or null.",
		`["https://example.com"]`:      "Must be a string or null.",
		`""`:                           noHTTPS,
		`"https://example.com/\u0000"`: "Must not contain control characters.",
		`"https://10.0.0.1/"`:          "Must not name an address in a private or special network.",
		`"http://127.0.0.1:8000/"`:     noHTTPS,
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			params, faults := parseRide(t, oakland+`,"callback_url":`+url+`}`)
			if want == "" {
				if len(faults) > 0 || params.CallbackURL == nil {
					t.Errorf("faults %v, URL %v", faults, params.CallbackURL)
				}
				return
			}
			if diff := cmp.Diff([]fault{{"/callback_url", want}}, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// A ride whose callback would go where none may go is refused at once, and
// leaves nothing behind (I25).
func TestNoRideIsHailedWithACallbackThatMayNotGoThere(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	corpus, err := os.ReadFile("../callbacks/testdata/ssrf.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(corpus)) {
		if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		n++
		url, err := json.Marshal(strings.ReplaceAll(line, "PORT", "8443"))
		if err != nil {
			t.Fatal(err)
		}
		body := strings.TrimSuffix(aRide, "}") + `,"callback_url":` + string(url) + `}`
		got := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa})
		if got.status != 422 || len(got.problem.Errors) != 1 || got.problem.Errors[0].Pointer != "/callback_url" {
			t.Errorf("%s: %d %s", url, got.status, got.body)
		}
	}
	if n < 300 {
		t.Errorf("the corpus has only %d URLs", n)
	}
	if n := number(t, h, `SELECT (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM staged_jobs)`); n != 0 || len(h.fake.Ledger()) != 0 {
		t.Errorf("they leave %d rows, and %d requests to Stripe", n, len(h.fake.Ledger()))
	}
}

func TestParseParamsTakesCallbacksThatAreAllowed(t *testing.T) {
	t.Parallel()
	doc := []byte(canonical(t, oakland+`,"callback_url":"http://127.0.0.1:8000/hook"}`))
	guard := callbacks.NewGuard(netip.MustParsePrefix("127.0.0.0/8"))
	if params, faults, err := parseParams(doc, 50_000, guard); err != nil || len(faults) > 0 || params.CallbackURL == nil {
		t.Errorf("%+v, faults %v, error %v", params, faults, err)
	}
}

func TestParseParamsTakesARideAtTheMostItMayCost(t *testing.T) {
	t.Parallel()
	doc := []byte(canonical(t, oakland+"}"))
	if _, faults, err := parseParams(doc, 2350, callbacks.NewGuard()); err != nil || len(faults) > 0 {
		t.Errorf("at the maximum: faults %v, error %v", faults, err)
	}
	if _, faults, err := parseParams(doc, 2349, callbacks.NewGuard()); err != nil || len(faults) != 1 || faults[0].Pointer != "/target" {
		t.Errorf("a cent beyond the maximum: faults %v, error %v", faults, err)
	}
}

func TestParseParamsRefusesWhatIsNotAnObject(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{`null`, `true`, `1`, `1e999`, `"secret"`, `[]`, `[{"origin":1}]`} {
		_, faults, err := parseParams([]byte(canonical(t, doc)), 50_000, callbacks.NewGuard())
		if refusal, ok := errors.AsType[*web.JSONError](err); !ok || refusal.Reason != "The body is not a JSON object" || faults != nil {
			t.Errorf("%s: faults %v, error %v", doc, faults, err)
		}
	}
	for _, doc := range []string{
		"", "{", `{"`, `{"a`, `{"a":`, `{"origin"`, `{"origin":"`, `{"origin":{"lat":"\ud`, `{"origin":{"lat":1`, `{"callback_url":"`, "{}{}",
	} {
		if _, _, err := parseParams([]byte(doc), 50_000, callbacks.NewGuard()); err == nil {
			t.Errorf("a part of a document was accepted: %s", doc)
		}
	}
}

func TestParseParamsIsStableAndSilentAboutValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"origin", "target", "callback_url", "lat", "lon", "Lat", "x/y", ""})
		values := rapid.SampledFrom([]any{"s3cr3t", webtest.Overflow("33333e999"), 33333.0, nil, true, []any{"s3cr3t"}})
		inner := rapid.Map(rapid.MapOfN(names, values, 0, 5), func(object map[string]any) any { return object })
		object := rapid.MapOfN(names, rapid.OneOf(values, inner), 0, 8).Draw(t, "object")
		doc := []byte(canonical(t, webtest.Spell(t, object)))
		_, faults, err := parseParams(doc, 50_000, callbacks.NewGuard())
		if err != nil {
			t.Fatal(err)
		}
		if _, again, _ := parseParams(doc, 50_000, callbacks.NewGuard()); !cmp.Equal(faults, again) {
			t.Fatalf("first %v, then %v", faults, again)
		}
		for i, fault := range faults {
			if strings.Contains(fault.Detail, "s3cr3t") || strings.Contains(fault.Detail, "33333") {
				t.Fatalf("%s repeats a value: %s", fault.Pointer, fault.Detail)
			}
			if i > 0 && faults[i-1].Pointer >= fault.Pointer {
				t.Fatalf("not sorted, or two faults at one field: %v", faults)
			}
		}
	})
}

// A fault is a web.ParamFault that a table can hold without the names of its
// fields.
type fault struct{ Pointer, Detail string }

func parseRide(t *testing.T, doc string) (Params, []fault) {
	t.Helper()
	params, faults, err := parseParams([]byte(canonical(t, doc)), 50_000, callbacks.NewGuard())
	if err != nil {
		t.Fatal(err)
	}
	var plain []fault
	for _, f := range faults {
		plain = append(plain, fault(f))
	}
	return params, plain
}

// canonical returns the canonical form of a document.
func canonical(t interface {
	Helper()
	Fatal(args ...any)
}, document string,
) string {
	t.Helper()
	form, err := web.Canonical([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return string(form)
}
