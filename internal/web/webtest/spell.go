// Package webtest helps to test code that reads JSON from clients.
package webtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"pgregory.net/rapid"
)

// An Overflow is the text of a number that no float64 can hold. All other
// values of a document are nil, bool, float64, string, []any or map[string]any.
type Overflow string

// Spell writes a document as JSON in one of its many spellings.
func Spell(t *rapid.T, value any) string {
	t.Helper()
	switch v := value.(type) {
	case float64:
		return blank(t) + spellNumber(t, v) + blank(t)
	case string:
		return blank(t) + spellString(t, v) + blank(t)
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, Spell(t, item))
		}
		return blank(t) + "[" + blank(t) + strings.Join(items, ",") + "]" + blank(t)
	case map[string]any:
		var members []string
		for _, name := range permuted(t, v) {
			members = append(members, blank(t)+spellString(t, name)+blank(t)+":"+Spell(t, v[name]))
		}
		return blank(t) + "{" + blank(t) + strings.Join(members, ",") + "}" + blank(t)
	case Overflow:
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
