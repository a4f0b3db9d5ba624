package rides

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"
)

// A document is modelled as nil, bool, float64, string, []any or map[string]any, and overflow for a number that
// no float64 holds.
type overflow string

func TestSpellingsOfOneDocumentHashAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		document := documents(3).Draw(t, "document")
		one, two := spell(t, document), spell(t, document)
		if hashOf(t, one) != hashOf(t, two) {
			t.Fatalf("%s and %s have different hashes", one, two)
		}
	})
}

func TestDifferentDocumentsNeverHashAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Both come from a few small values, so that near misses and equal pairs are frequent.
		one, two := documents(2).Draw(t, "one"), documents(2).Draw(t, "two")
		same := reflect.DeepEqual(one, two)
		if hashed := hashOf(t, spell(t, one)) == hashOf(t, spell(t, two)); hashed != same {
			t.Fatalf("%#v and %#v: equal %t, hashed alike %t", one, two, same, hashed)
		}
	})
}

func TestAnyTwoFloatsHashAlikeOnlyWhenEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := rapid.Float64().Draw(t, "one"), rapid.Float64().Draw(t, "two")
		if hashed := hashOf(t, spell(t, one)) == hashOf(t, spell(t, two)); hashed != (one == two) {
			t.Fatalf("%v and %v: hashed alike %t", one, two, hashed)
		}
		if spelling, other := spell(t, one), spell(t, one); hashOf(t, spelling) != hashOf(t, other) {
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
			want = append(want, canonical(t, spell(t, name))+":"+canonical(t, spell(t, name)))
		}
		if got := canonical(t, spell(t, object)); got != "{"+strings.Join(want, ",")+"}" {
			t.Fatalf("got %s, want members %s", got, want)
		}
	})
}

func hashOf(t *rapid.T, doc string) [32]byte {
	t.Helper()
	return RequestHash("POST", "/v1/rides", nil, []byte(canonical(t, doc)))
}

func documents(depth int) *rapid.Generator[any] {
	scalars := rapid.SampledFrom([]any{
		nil, true, false, 0.0, 1.0, -1.0, 10.0, 0.1, 1e21, 5e-324, 37.7749, overflow("1e999"), overflow("1e9999"),
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

// spell writes a document as JSON in one of its many spellings.
func spell(t *rapid.T, value any) string {
	t.Helper()
	switch v := value.(type) {
	case float64:
		return blank(t) + spellNumber(t, v) + blank(t)
	case string:
		return blank(t) + spellString(t, v) + blank(t)
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, spell(t, item))
		}
		return blank(t) + "[" + blank(t) + strings.Join(items, ",") + "]" + blank(t)
	case map[string]any:
		var members []string
		for _, name := range permuted(t, v) {
			members = append(members, blank(t)+spellString(t, name)+blank(t)+":"+spell(t, v[name]))
		}
		return blank(t) + "{" + blank(t) + strings.Join(members, ",") + "}" + blank(t)
	case overflow:
		return blank(t) + string(v)
	case nil:
		return blank(t) + "null"
	default:
		return blank(t) + fmt.Sprint(v)
	}
}

func permuted(t *rapid.T, object map[string]any) []string {
	t.Helper()
	names := slices.Sorted(maps.Keys(object))
	if len(names) == 0 {
		return nil
	}
	return rapid.Permutation(names).Draw(t, "order")
}

func blank(t *rapid.T) string {
	t.Helper()
	return rapid.SampledFrom([]string{"", " ", "\t", "\r\n", "  "}).Draw(t, "blank")
}

func spellNumber(t *rapid.T, number float64) string {
	t.Helper()
	format := rapid.SampledFrom([]byte{'e', 'E', 'f', 'g'}).Draw(t, "format")
	text := strconv.FormatFloat(number, format, -1, 64)
	if !strings.ContainsAny(text, "eE.") && rapid.Bool().Draw(t, "fraction") {
		return text + ".0"
	}
	if !strings.ContainsAny(text, "eE") && rapid.Bool().Draw(t, "exponent") {
		return text + "E-00"
	}
	if number == 0 && rapid.Bool().Draw(t, "sign") {
		return "-0"
	}
	return text
}

func spellString(t *rapid.T, text string) string {
	t.Helper()
	var out strings.Builder
	out.WriteByte('"')
	for _, char := range text {
		must := char < 0x20 || char == '"' || char == '\\'
		switch {
		case must || rapid.Bool().Draw(t, "escaped"):
			escape := "\\u%04x"
			if rapid.Bool().Draw(t, "upper") {
				escape = "\\u%04X"
			}
			for _, unit := range utf16.Encode([]rune{char}) {
				fmt.Fprintf(&out, escape, unit)
			}
		case char == '/' && rapid.Bool().Draw(t, "slash"):
			out.WriteString(`\/`)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
	return out.String()
}

func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
