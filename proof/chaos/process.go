package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/process"
)

const (
	// backoffInitial and backoffMax bound the pause before a process is started
	// again. A program ends at once while Postgres does not run, and must be
	// back soon after Postgres is.
	backoffInitial = 20 * time.Millisecond
	backoffMax     = 150 * time.Millisecond
	// goExitPanic is the exit code of a Go program that panicked, or ran out of
	// memory.
	goExitPanic = 2
	// drainTimeout is how long a program may take to end after SIGTERM.
	drainTimeout = 6 * time.Second
)

// A program says how a process is run.
type program struct {
	name    string // api-1
	binary  string // api
	args    []string
	env     []string
	ready   string            // the URL that answers 200 when it is ready
	folders map[string]string // of the binaries, by release
	logs    string            // folder of the logs
}

func (p program) log() string { return filepath.Join(p.logs, p.name+".log") }

// A life is one process of a program.
type life struct {
	release  string
	from, to time.Time // to is zero while the process runs
}

// A worker is a program that is started again whenever its process ends, until
// stop. Its methods are safe for concurrent use.
type worker struct {
	program
	supervisor *process.Supervisor

	mu      sync.Mutex
	release string
	child   *process.Child // the last one that was started
	lives   []life
	crashes int // ends by a panic
}

// startWorker starts a program and keeps it running.
func startWorker(ctx context.Context, p program, release string) (*worker, error) {
	w := &worker{program: p, release: release}
	first, err := w.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	w.supervisor = process.Supervise(ctx, first, process.Program{
		Start: w.start, Ended: w.ended, BackoffInitial: backoffInitial, BackoffMax: backoffMax,
	})
	return w, nil
}

// start starts one process of the worker's release.
func (w *worker) start(ctx context.Context) (process.Process, error) {
	log, err := os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the process writes to its own copy
	w.mu.Lock()
	defer w.mu.Unlock()
	command := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(w.folders[w.release], w.binary), w.args...)
	command.Env, command.Stdout, command.Stderr = w.env, log, log
	child, err := process.Start(command, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	w.child = child
	w.lives = append(w.lives, life{release: w.release, from: time.Now()})
	return child, nil
}

// ended notes the end of the last process.
func (w *worker) ended(err error, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives[len(w.lives)-1].to = time.Now()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == goExitPanic {
		w.crashes++
	}
}

// latest returns the process that was started last. It may have ended.
func (w *worker) latest() *process.Child {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.child
}

// kill is kill -9. It reports whether there was a process to kill.
func (w *worker) kill() bool { return w.latest().Signal(syscall.SIGKILL) == nil }

// freeze stops the process for a while. It reports whether the process was
// stopped for that long and then went on.
func (w *worker) freeze(ctx context.Context, lasts time.Duration) bool {
	child := w.latest()
	if child.Signal(syscall.SIGSTOP) != nil {
		return false
	}
	_ = pause.For(ctx, lasts)
	// Signal returns an error if the process was killed meanwhile.
	return child.Signal(syscall.SIGCONT) == nil && ctx.Err() == nil
}

// deploy ends the process in order, so that one of the other release takes its
// place. It reports whether there was a process to replace.
func (w *worker) deploy(ctx context.Context) bool {
	w.mu.Lock()
	w.release = map[string]string{current: next, next: current}[w.release]
	child := w.child
	w.mu.Unlock()
	if child.Signal(syscall.Signal(0)) != nil { // it has ended
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	_ = child.Stop(ctx) // after its time a process is killed
	return true
}

// history returns all lives so far, and how many ended by a panic.
func (w *worker) history() ([]life, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]life(nil), w.lives...), w.crashes
}

// stop kills the process and starts no other.
func (w *worker) stop(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	cancel() // it need not end in order
	_ = w.supervisor.Stop(ctx)
}

// awaitReady returns when the process is ready.
func (w *worker) awaitReady(ctx context.Context) error {
	if err := process.AwaitReady(ctx, w.ready, nil); err != nil {
		return fmt.Errorf("%s is not ready: %w; its log is %s", w.name, err, w.log())
	}
	return nil
}
