package process

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell starts a shell script and returns the process when it has printed a
// line.
func shell(t *testing.T, script string) *Child {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", script)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Signal(syscall.SIGKILL) })
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatalf("the script ended: %v", err)
	}
	return c
}

func TestChild(t *testing.T) {
	t.Parallel()
	t.Run("has a process group of its own", func(t *testing.T) {
		t.Parallel()
		c := shell(t, "echo ready; exec sleep 60")
		if group, err := syscall.Getpgid(c.PID()); err != nil || group != c.PID() {
			t.Errorf("the child %d is in process group %d (%v): a terminal's Ctrl-C would reach it", c.PID(), group, err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("is killed when it does not end in time", func(t *testing.T) {
		t.Parallel()
		c := shell(t, "trap '' TERM; echo ready; while :; do sleep 1; done")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.Stop(ctx); err == nil || !strings.Contains(err.Error(), "was killed") || !WasKilled(c.Err()) {
			t.Errorf("Stop returned %v, and the child ended with %v, want a kill", err, c.Err())
		}
	})
	t.Run("that can't be started is an error", func(t *testing.T) {
		t.Parallel()
		if _, err := Start(exec.CommandContext(t.Context(), "/nowhere"), syscall.SIGKILL); err == nil {
			t.Error("it started")
		}
	})
}

// program runs a script again and again. starts and ends hear of it.
func program(t *testing.T, script string) (p Program, starts chan time.Time, ends chan error) {
	t.Helper()
	starts, ends = make(chan time.Time, 100), make(chan error, 100)
	return Program{
		Start: func(ctx context.Context) (Process, error) {
			starts <- time.Now()
			return Start(exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", script), syscall.SIGKILL)
		},
		Ended:          func(err error, _ time.Duration) { ends <- err },
		BackoffInitial: 50 * time.Millisecond, BackoffMax: 10 * time.Second,
	}, starts, ends
}

// supervise starts a program and keeps it running until the test ends.
func supervise(t *testing.T, p Program) *Supervisor {
	t.Helper()
	first, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return Supervise(t.Context(), first, p)
}

// receive returns what comes from a channel, and fails the test if nothing
// does.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(30 * time.Second):
		t.Fatal("nothing happened for 30s")
		panic("unreachable")
	}
}

// A program that ends by itself is started again and again, after longer and
// longer pauses, and Stop ends a pause at once.
func TestLoopOfCrashesBacksOffUntilStop(t *testing.T) {
	t.Parallel()
	p, starts, ends := program(t, "exit 3")
	s := supervise(t, p)
	begun := receive(t, starts)
	for _, delay := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		if err := receive(t, ends); err == nil || err.Error() != "exit status 3" {
			t.Errorf("it ended with %v, want exit status 3", err)
		}
		again := receive(t, starts)
		if again.Sub(begun) < delay {
			t.Errorf("it was started again after %s, want a pause of at least %s", again.Sub(begun), delay)
		}
		begun = again
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if p.backoff(0) != 50*time.Millisecond || p.backoff(1000) != 10*time.Second {
		t.Errorf("the first pause is %s, the longest is %s", p.backoff(0), p.backoff(1000))
	}
}

func TestKillIsNoFailure(t *testing.T) {
	t.Parallel()
	p, starts, ends := program(t, "kill -9 $$")
	var waits []time.Duration
	ended := p.Ended
	p.Ended = func(err error, wait time.Duration) {
		waits = append(waits, wait)
		ended(err, wait)
	}
	s := supervise(t, p)
	for range 4 {
		receive(t, starts)
		if err := receive(t, ends); !WasKilled(err) {
			t.Errorf("it ended with %v, want a signal", err)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, wait := range waits {
		if wait != p.BackoffInitial {
			t.Errorf("after a kill the pause is %s, want %s", wait, p.BackoffInitial)
		}
	}
}

func TestExitStatus0IsAnEndToo(t *testing.T) {
	t.Parallel()
	p, starts, ends := program(t, "exit 0")
	s := supervise(t, p)
	for range 2 {
		receive(t, starts)
		if err := receive(t, ends); err == nil || err.Error() != "exit status 0" {
			t.Errorf("it ended with %v, want exit status 0", err)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStopEndsTheProcessThatRuns(t *testing.T) {
	t.Parallel()
	p, _, _ := program(t, "exec sleep 60")
	started := make(chan Process, 2)
	start := p.Start
	p.Start = func(ctx context.Context) (Process, error) {
		child, err := start(ctx)
		started <- child
		return child, err
	}
	s := supervise(t, p)
	if err := syscall.Kill(receive(t, started).PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	last := receive(t, started)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-last.Done():
	default:
		t.Error("the process runs after Stop")
	}
}
