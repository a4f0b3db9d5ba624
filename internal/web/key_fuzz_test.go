package web

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// FuzzIdempotencyKeyReadings compares with the two forms of the contract as
// regular expressions, of which at most one matches any value.
func FuzzIdempotencyKeyReadings(f *testing.F) {
	bare := regexp.MustCompile(`^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}$`)
	quoted := regexp.MustCompile(`^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$`)
	for _, seed := range []string{
		"", "k", ` "k"	`, `"a\"b\\"`, `"k";a=1`, `"k";`, `"k`, "a,b", `"a,b"`, `"a" , "b"`, `"\x"`, "ü", `""`, `"` + strings.Repeat(`\"`, 255) + `"`,
		strings.Repeat("k", 256), "k\r\n", `k"`, `'k'`, `:a2V5:`, `?1`, `"k"; a`, "\ufeffk", "null", `"undefined"`, `" "`, "%22k%22",
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, line, other string) {
		value := strings.Trim(line, " \t")
		var readings []string
		if bare.MatchString(value) {
			readings = append(readings, value)
		}
		if match := quoted.FindStringSubmatch(value); match != nil {
			readings = append(readings, regexp.MustCompile(`\\(["\\])`).ReplaceAllString(match[1], "$1"))
		}
		readings = slices.DeleteFunc(readings, func(key string) bool {
			return slices.Contains([]string{"null", "undefined", "NaN", "None", "[object Object]"}, key)
		})
		key, err := ParseIdempotencyKey(headerWithKey(line))
		if taken := err == nil; taken != (len(readings) == 1) || taken && key != readings[0] {
			t.Fatalf("%q is the key %q (%v), but its readings are %q", line, key, err, readings)
		}
		// A proxy may join two lines into one. Both forms are refused.
		for _, twice := range [][]string{{line, other}, {line + ", " + other}, {line + "," + other}} {
			if len(twice) == 1 && (len(readings) == 0 || strings.TrimSpace(other) == "") {
				continue // joined with nothing, or with what was no key before
			}
			if key, err := ParseIdempotencyKey(headerWithKey(twice...)); err == nil {
				t.Fatalf("%q together are the key %q", twice, key)
			}
		}
	})
}
