package web

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/web/webtest"
)

func TestSpellingsOfOneDocumentHashAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		document := documents(3).Draw(t, "document")
		one, two := webtest.Spell(t, document), webtest.Spell(t, document)
		if hashOf(t, one) != hashOf(t, two) {
			t.Fatalf("%s and %s have different hashes", one, two)
		}
	})
}

func TestDifferentDocumentsNeverHashAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Both come from a few small values, so that equal and nearly equal
		// pairs are frequent.
		one, two := documents(2).Draw(t, "one"), documents(2).Draw(t, "two")
		same := reflect.DeepEqual(one, two)
		if hashed := hashOf(t, webtest.Spell(t, one)) == hashOf(t, webtest.Spell(t, two)); hashed != same {
			t.Fatalf("%#v and %#v: equal %t, hashed alike %t", one, two, same, hashed)
		}
	})
}

func TestAnyTwoFloatsHashAlikeOnlyWhenEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := rapid.Float64().Draw(t, "one"), rapid.Float64().Draw(t, "two")
		if hashed := hashOf(t, webtest.Spell(t, one)) == hashOf(t, webtest.Spell(t, two)); hashed != (one == two) {
			t.Fatalf("%v and %v: hashed alike %t", one, two, hashed)
		}
		if spelling, other := webtest.Spell(t, one), webtest.Spell(t, one); hashOf(t, spelling) != hashOf(t, other) {
			t.Fatalf("%s and %s have different hashes", spelling, other)
		}
	})
}

func TestMembersAreSortedByUTF16(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.String(), 2, 8, rapid.ID[string]).Draw(t, "names")
		object := map[string]any{}
		for _, name := range names {
			object[name] = name
		}
		slices.SortFunc(names, compareUTF16)
		var want []string
		for _, name := range names {
			want = append(want, canonical(t, webtest.Spell(t, name))+":"+canonical(t, webtest.Spell(t, name)))
		}
		if got := canonical(t, webtest.Spell(t, object)); got != "{"+strings.Join(want, ",")+"}" {
			t.Fatalf("got %s, want members %s", got, want)
		}
	})
}

func hashOf(t *rapid.T, doc string) [32]byte {
	t.Helper()
	return requestHash("POST", "/v1/rides", nil, []byte(canonical(t, doc)))
}

func documents(depth int) *rapid.Generator[any] {
	scalars := rapid.SampledFrom([]any{
		nil, true, false, 0.0, 1.0, -1.0, 10.0, 0.1, 1e21, 5e-324, 37.7749, webtest.Overflow("1e999"), webtest.Overflow("1e9999"),
		"", "0", "1", "null", "a", "A", "\u00e9", "e\u0301", "\x00", "\"\\/", "€", "😀", "a b",
	})
	if depth == 0 {
		return scalars
	}
	inner := documents(depth - 1)
	names := rapid.SampledFrom([]string{"", "a", "A", "b", "\ufb33", "😀", "a\"b", "~", "/"})
	return rapid.OneOf(
		scalars,
		rapid.Map(rapid.SliceOfN(inner, 0, 3), func(list []any) any { return list }),
		rapid.Map(rapid.MapOfN(names, inner, 0, 3), func(object map[string]any) any { return object }),
	)
}

func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
