package phases_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// cut draws one of the many lists of parts that together are text.
func cut(t *rapid.T, text string) []string {
	t.Helper()
	places := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 5).Draw(t, "places")
	slices.Sort(places)
	parts := []string{}
	from := 0
	for _, place := range append(places, len(text)) {
		parts, from = append(parts, text[from:place]), place
	}
	return parts
}

// lengths returns texts that look like the lengths which Digest puts before its
// parts.
func lengths() *rapid.Generator[string] {
	pieces := rapid.SampledFrom([]string{"\x00", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", "\x01", "\x08", "a", "|", ","})
	return rapid.Map(rapid.SliceOfN(pieces, 0, 8), func(all []string) string { return strings.Join(all, "") })
}

// TestDigestsDependOnHowTheTextIsCut: two calls that share a foreign key would
// be one charge for two rides.
func TestDigestsDependOnHowTheTextIsCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(lengths(), rapid.String()).Draw(t, "text")
		one, two := cut(t, text), cut(t, text)
		if same := phases.Digest(one...) == phases.Digest(two...); same != slices.Equal(one, two) {
			t.Fatalf("%q and %q: digested alike %t", one, two, same)
		}
	})
}

func TestForeignKeysDifferIfTheirPartsDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"", "a", "b", "ab", "a\x00", "\x00", "hail", "charge_created"})
		four := rapid.SliceOfN(part, 4, 4)
		one, two := four.Draw(t, "one"), four.Draw(t, "two")
		if rapid.Bool().Draw(t, "near") { // else hardly any two run together
			two = slices.Clone(one)
			at := rapid.IntRange(0, 2).Draw(t, "at")
			text := one[at] + one[at+1]
			place := rapid.IntRange(0, len(text)).Draw(t, "place")
			two[at], two[at+1] = text[:place], text[place:]
		}
		key, other := phases.ForeignKey(one[0], one[1], one[2], one[3]), phases.ForeignKey(two[0], two[1], two[2], two[3])
		if (key == other) != slices.Equal(one, two) {
			t.Fatalf("%q has the key %s, %q has %s", one, key, two, other)
		}
		if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
			t.Fatalf("%q has the key %q", one, key)
		}
	})
}
