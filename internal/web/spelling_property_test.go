package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/web/webtest"
)

// A request is everything by which two requests can differ.
type request struct {
	method, route string
	ids           []string
	document      any
}

// requests draws from a few values that could be confused when they are joined.
func requests(t *rapid.T, name string) request {
	t.Helper()
	word := rapid.SampledFrom([]string{"", "POST", "/v1/rides", "/v1/rides/{id}/cancel", "ride_1", "{}", "\x00", "POST/v1/rides"})
	return request{
		method: word.Draw(t, name+" method"), route: word.Draw(t, name+" route"),
		ids: rapid.SliceOfN(word, 0, 3).Draw(t, name+" ids"), document: documents(1).Draw(t, name+" document"),
	}
}

func (r request) hash(t *rapid.T) [32]byte {
	t.Helper()
	return requestHash(r.method, r.route, r.ids, []byte(canonical(t, webtest.Spell(t, r.document))))
}

// nearly returns one with a part of two, or with its own text divided at
// another place.
func nearly(t *rapid.T, one, two request) request {
	t.Helper()
	switch rapid.IntRange(0, 5).Draw(t, "part") {
	case 0:
		one.method = two.method
	case 1:
		one.route = two.route
	case 2:
		one.ids = two.ids
	case 3:
		one.document = two.document
	case 4:
		text := one.method + one.route
		place := rapid.IntRange(0, len(text)).Draw(t, "cut")
		one.method, one.route = text[:place], text[place:]
	case 5:
		one.ids = []string{strings.Join(one.ids, "")}
	}
	return one
}

func TestRequestsHashAlikeOnlyWhenTheyAreOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := requests(t, "one"), requests(t, "two")
		if rapid.Bool().Draw(t, "near") { // otherwise hardly any pair has all but one part in common
			two = nearly(t, one, two)
		}
		same := fmt.Sprintf("%#v", one) == fmt.Sprintf("%#v", two) && slices.Equal(one.ids, two.ids)
		if hashed := one.hash(t) == two.hash(t); hashed != same {
			t.Fatalf("%#v and %#v: equal %t, hashed alike %t", one, two, same, hashed)
		}
	})
}
