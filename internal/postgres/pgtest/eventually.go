package pgtest

import (
	"testing"
	"time"
)

// Eventually polls until done returns true. After half a minute it fails the
// test and says what did not happen.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within %s: %s", patience, what)
		}
	}
}
