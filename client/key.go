package client

import (
	"crypto/rand"
	"errors"
	"strings"
)

// maxKey is how many characters a key may have.
const maxKey = 255

// NewKey returns a new idempotency key: 26 characters that nobody can guess.
func NewKey() string { return rand.Text() }

// checkKey returns an error for a key that the API would refuse.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(char rune) bool { return char < ' ' || char > '~' }) {
		return errors.New("an idempotency key has 1 to 255 printable ASCII characters")
	}
	return nil
}

// fieldOf returns the value of the header Idempotency-Key for a key. One that
// has other characters than the API takes as they are is quoted, as a String of
// RFC 9651. Both forms mean the same key.
func fieldOf(key string) string {
	if !strings.ContainsAny(key, " \",\\") {
		return key
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}
