package pgtest

import (
	"testing"
	"time"
)

// Eventually polls until done returns true. After 20 s it fails the test and
// says what did not happen.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within 20s: %s", what)
		}
	}
}
