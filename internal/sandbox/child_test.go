package sandbox

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/process"
)

// idle is a process that runs until it is stopped.
type idle struct {
	done    chan struct{}
	stopped func()
}

func (*idle) PID() int                { return 1 }
func (i *idle) Done() <-chan struct{} { return i.done }
func (*idle) Err() error              { return nil }

func (i *idle) Stop(context.Context) error {
	i.stopped()
	close(i.done)
	return nil
}

// TestAChildStartsWhenTheOneBeforeIsReady: or the api asks a fake Stripe that
// doesn't listen yet whose its key is, and refuses the first rides.
func TestAChildStartsWhenTheOneBeforeIsReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	const notYet = 3 // questions
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= notYet {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(ready.Close)
	s := newSandbox(folder(t), run{}, cli.Output{Stderr: t.Output()}, "text")
	var stopped []string
	child := func(name string, start func() error) program {
		return program{
			name: name, ready: ready.URL, output: s.log.writer(name), grace: time.Second,
			start: func(context.Context) (process.Process, error) {
				return &idle{make(chan struct{}), func() { stopped = append(stopped, name) }}, start()
			},
		}
	}
	stop, err := s.startChildren(t.Context(), t.Context(), []program{
		child("first", func() error { return nil }),
		child("second", func() error {
			if n := asked.Load(); n <= notYet {
				t.Errorf("the second starts after %d questions whether the first is ready", n)
			}
			return nil
		}),
		child("third", func() error { return errors.New("no") }),
	})
	if err == nil {
		t.Error("a child that does not start is no error")
	}
	stop()
	if want := []string{"second", "first"}; !slices.Equal(stopped, want) {
		t.Errorf("%q were stopped, want %q", stopped, want)
	}
}
