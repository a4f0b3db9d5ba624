package process

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestOnly200IsAnAnswer(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{http.StatusOK: true, http.StatusNoContent: false, http.StatusFound: false, http.StatusServiceUnavailable: false} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			t.Cleanup(server.Close)
			if got := answers(t.Context(), server.URL); got != want {
				t.Errorf("answers = %t for status %d, want %t", got, status, want)
			}
		})
	}
}

func TestNoListenerIsNoAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if answers(t.Context(), server.URL) {
		t.Error("answers = true, and nobody listens")
	}
}

// A child that accepts a connection and never answers must not keep AwaitReady
// from seeing that it has ended.
func TestRequestThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	begun := time.Now()
	if answers(t.Context(), server.URL) {
		t.Error("answers = true")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAwaitReady(t *testing.T) {
	t.Parallel()
	t.Run("returns when the server is ready", func(t *testing.T) {
		t.Parallel()
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if requests++; requests < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		t.Cleanup(server.Close)
		if err := AwaitReady(t.Context(), server.URL, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("returns the error of a process that ended", func(t *testing.T) {
		t.Parallel()
		failed := make(chan error, 1)
		failed <- errExited
		if err := AwaitReady(t.Context(), "http://127.0.0.1:1", failed); !errors.Is(err, errExited) {
			t.Errorf("err = %v, want that of the process", err)
		}
	})
	t.Run("returns when its context ends", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := AwaitReady(ctx, "http://127.0.0.1:1", nil)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
			t.Errorf("err = %v, want context.Canceled with the URL", err)
		}
	})
}
