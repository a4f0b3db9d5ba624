package rides

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// FuzzIdempotencyKeyReadings compares with the two forms of the contract, written down as what they are: regular
// languages that have no value in common.
func FuzzIdempotencyKeyReadings(f *testing.F) {
	bare := regexp.MustCompile(`^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}$`)
	quoted := regexp.MustCompile(`^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$`)
	for _, seed := range []string{
		"", "k", ` "k"	`, `"a\"b\\"`, `"k";a=1`, `"k";`, `"k`, "a,b", `"a,b"`, `"a" , "b"`, `"\x"`, "ü", `""`, `"` + strings.Repeat(`\"`, 255) + `"`,
		strings.Repeat("k", 256), "k\r\n", `k"`, `'k'`, `:a2V5:`, `?1`, `"k"; a`, "\ufeffk", `" "`, "%22k%22",
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
		key, err := ParseIdempotencyKey(headerWithKey(line))
		if taken := err == nil; taken != (len(readings) == 1) || taken && key != readings[0] {
			t.Fatalf("%q is the key %q (%v), but its readings are %q", line, key, err, readings)
		}
		// A proxy may join two lines into one; neither way is anybody's key.
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

// FuzzAPIKeyTypo makes each possible slip of a finger in a key, and expects every one of them to be seen.
func FuzzAPIKeyTypo(f *testing.F) {
	f.Add([]byte(""), false, byte('x'))
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), true, byte(' '))
	f.Fuzz(func(t *testing.T, seed []byte, live bool, typo byte) {
		text := resum(map[bool]string{true: livePrefix, false: testPrefix}[live] + base62Of(seed) + "000000")
		key, err := ParseAPIKey(text)
		if err != nil || key.Reveal() != text || key.Live() != live || key.AccountID() != accountPrefix+text[8:24] {
			t.Fatalf("%s: %v, live %t, account %s", text, err, key.Live(), key.AccountID())
		}
		for i := range len(text) {
			wrong := []string{text[:i] + text[i+1:], text[:i] + string(typo) + text[i:]}
			if text[i] != typo {
				wrong = append(wrong, text[:i]+string([]byte{typo})+text[i+1:])
			}
			if i > 0 && text[i] != text[i-1] {
				wrong = append(wrong, text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
			}
			for _, text := range wrong {
				if _, err := ParseAPIKey(text); !errors.Is(err, ErrAPIKeyInvalid) {
					t.Fatalf("%q is taken", text)
				}
			}
		}
	})
}

// base62Of makes the part of a key between its prefix and its checksum of any bytes.
func base62Of(seed []byte) string {
	text := make([]byte, accountLength+randomLength)
	for i := range text {
		if i < len(seed) {
			text[i] = seed[i]
		}
		text[i] = base62[(i+int(text[i]))%len(base62)]
	}
	return string(text)
}
