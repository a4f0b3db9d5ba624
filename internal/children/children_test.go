package children_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/children"
)

func TestOnly200IsAnAnswer(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{http.StatusOK: true, http.StatusNoContent: false, http.StatusFound: false, http.StatusServiceUnavailable: false} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			t.Cleanup(server.Close)
			if got := children.Answers(t.Context(), server.URL); got != want {
				t.Errorf("%d counts: %t", status, got)
			}
		})
	}
}

func TestNobodyThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if children.Answers(t.Context(), server.URL) {
		t.Error("it answers")
	}
}

// A child that takes the connection and says nothing must not keep whoever
// waits from looking whether it ended.
func TestAnAnswerThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	begun := time.Now()
	if children.Answers(t.Context(), server.URL) {
		t.Error("it answers")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
