package accounts

import (
	"errors"
	"testing"
)

// FuzzAPIKeyTypo makes each possible typing error in a key: every one must be
// noticed.
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
				if _, err := ParseAPIKey(text); !errors.Is(err, errAPIKeyInvalid) {
					t.Fatalf("%q is accepted", text)
				}
			}
		}
	})
}

// base62Of turns any bytes into the part of a key between prefix and checksum.
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
