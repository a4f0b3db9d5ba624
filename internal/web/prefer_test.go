package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestPreferencesAreReadAsRFC7240HasThem(t *testing.T) {
	t.Parallel()
	async, wait := Preferences{Async: true}, func(seconds int) Preferences { return Preferences{Wait: time.Duration(seconds) * time.Second} }
	both := Preferences{Async: true, Wait: 10 * time.Second}
	for line, want := range map[string]Preferences{
		`respond-async`: async, `Respond-Async ; a=b`: async, `foo="a\\", respond-async`: async, `foo=","; a=",", respond-async`: async,
		`respond-async=""`: async, `respond-async = `: async, `respond-async;wait=5`: async,
		// A client that didn't ask for 202 must not get one.
		`foo="a, respond-async"`: {}, `foo="a\", respond-async"`: {}, `foo; a="b, respond-async , c"`: {}, `foo=", respond-async`: {},
		`respond-async=1`: {}, `foo; respond-async`: {}, ``: {}, `,`: {}, `respond`: {}, `respond-async respond-async`: {},

		`wait=1`: wait(1), `wait=30`: wait(30), `WAIT=7`: wait(7), `wait = 7`: wait(7), "wait\t=\t7": wait(7), `wait=007`: wait(7), `wait="7"`: wait(7), `wait="\7"`: wait(7),
		`wait=31`: wait(30), `wait=86400`: wait(30), `wait=9223372036854775807`: wait(30), `wait=99999999999999999999999999`: wait(30),
		// What is no whole number of seconds is no preference.
		`wait=0`: {}, `wait=000`: {}, `wait`: {}, `wait=`: {}, `wait=""`: {}, `wait=-1`: {}, `wait=+1`: {}, `wait=1.5`: {}, `wait=1s`: {}, `wait=1 0`: {}, `wait=0x10`: {},
		`wait=１`: {}, `wait=1e1`: {}, `wait=1_0`: {}, `wait="1`: {}, `wait=1"`: {}, `wait="1\"`: {}, `wait='1'`: {}, `wait:5`: {}, `foo; wait=5`: {}, `foo="x; wait=5"`: {}, `await=5`: {},
		// The first of several counts, even if it can't be read.
		`wait=5, wait=9`: wait(5), `wait=x, wait=9`: {}, `wait, wait=9`: {}, `respond-async=1, respond-async`: {}, `respond-async, respond-async=1`: async, `Wait=5, wait=9`: wait(5),
		`respond-async, wait=10`: both, `wait=10,respond-async`: both, `,, wait=10;a="1;2",, handling=lenient ,respond-async;x=y;z`: both,
	} {
		if got := ReadPreferences(http.Header{"Prefer": {line}}); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
	lines := http.Header{"Prefer": {`wait=10; a="b`, `respond-async`, `wait=3`}}
	if got := ReadPreferences(lines); got != both {
		t.Errorf("three lines: got %+v, want %+v", got, both)
	}
}

func TestAnAnswerNamesThePreferencesThatWereApplied(t *testing.T) {
	t.Parallel()
	for want, applied := range map[string]Preferences{
		"respond-async":          {Async: true},
		"wait=30":                {Wait: 30 * time.Second},
		"respond-async, wait=10": {Async: true, Wait: 10 * time.Second},
	} {
		w := httptest.NewRecorder()
		SetApplied(w, applied)
		if got := w.Header().Get("Preference-Applied"); got != want || w.Header().Get("Vary") != "Prefer" {
			t.Errorf("got %q, Vary %q, want %q", got, w.Header().Get("Vary"), want)
		}
		if got := ReadPreferences(http.Header{"Prefer": w.Header()["Preference-Applied"]}); got != applied {
			t.Errorf("%q is read as %+v", want, got)
		}
	}
}
