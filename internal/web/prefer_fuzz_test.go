package web

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A client that didn't ask for 202 must not get one.
func TestPreferWithinQuotesIsNoPreference(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`respond-async`: true, `wait=10, Respond-Async ; a=b`: true, `foo="a\\", respond-async`: true, `foo=","; a=",", respond-async`: true,
		`foo="a, respond-async"`: false, `foo="a\", respond-async"`: false, `foo; a="b, respond-async , c"`: false, `foo=", respond-async`: false,
		`respond-async=1`: false, `foo; respond-async`: false, ``: false, `,`: false,
	} {
		if got := PrefersAsync(http.Header{"Prefer": {line}}); got != want {
			t.Errorf("%s: got %t", line, got)
		}
	}
}

// preferLine is one line of Prefer, and whether it asks for respond-async.
func preferLine(t *rapid.T) (string, bool) {
	t.Helper()
	var line strings.Builder
	asked := false
	for i := range rapid.IntRange(0, 4).Draw(t, "preferences") {
		if i > 0 {
			line.WriteString(rapid.SampledFrom([]string{",", ", ", " ,\t"}).Draw(t, "comma"))
		}
		name := rapid.SampledFrom([]string{"respond-async", "Respond-ASYNC", "respond-asyncs", "wait", "foo", ""}).Draw(t, "name")
		line.WriteString(name)
		value := rapid.SampledFrom([]string{"", "", "=1", `="a, respond-async"`, `="a\", respond-async, \\"`, `="; respond-async"`}).Draw(t, "value")
		line.WriteString(value)
		line.WriteString(rapid.SampledFrom([]string{"", "", ";", "; respond-async", `;a="b, respond-async , c"`, ` ; a=b`}).Draw(t, "parameters"))
		asked = asked || strings.EqualFold(name, "respond-async") && value == ""
	}
	return line.String(), asked
}

func TestPreferIsReadAsRFC7240HasIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, prefer)
}

func FuzzPrefer(f *testing.F) { f.Fuzz(rapid.MakeFuzz(prefer)) }

func prefer(t *rapid.T) {
	one, asked := preferLine(t)
	two, askedToo := preferLine(t)
	header := http.Header{"Prefer": {one, two}}
	if got := PrefersAsync(header); got != (asked || askedToo) {
		t.Fatalf("%q asks for respond-async %t, read as %t", header["Prefer"], asked || askedToo, got)
	}
}
