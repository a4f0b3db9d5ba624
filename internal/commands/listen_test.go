package commands

import (
	"net/http"
	"strings"
	"testing"
)

// TestAVeryLongKeyGetsAProblem: a client that sends far too long a key learns
// so as it learns everything else, and not from net/http's own refusal of long
// headers, which is plain text.
func TestAVeryLongKeyGetsAProblem(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	got := s.hail(s.start(t, "api"), strings.Repeat("k", 20<<10))
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.status != http.StatusBadRequest || got.header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(got.body, `"code":"idempotency_key_invalid"`) {
		t.Errorf("got %d %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
}
