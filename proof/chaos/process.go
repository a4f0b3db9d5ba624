package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/children"
	"github.com/rocketrides/rocketrides/internal/pause"
)

const (
	// readyTimeout bounds a program's first start, restartPause the rate of its
	// starts while it can't run: it ends at once when Postgres isn't there.
	readyTimeout = 30 * time.Second
	restartPause = 150 * time.Millisecond
	// goExitPanic is the exit code of a Go program that panicked, or ran out of
	// memory.
	goExitPanic = 2
	// drainTimeout is what a program gets to end after SIGTERM.
	drainTimeout = 6 * time.Second
)

// A program says how a process is run.
type program struct {
	name    string // api-1
	binary  string // api
	args    []string
	env     []string
	ready   string            // answers 200 when it can serve
	folders map[string]string // where the binary lies, by release
	logs    string            // folder of the logs
}

// A life is one process of a program.
type life struct {
	release  string
	from, to time.Time // to is zero while it lives
}

// A worker is a program that is started again whenever it ends, until stop. Its
// methods are safe for concurrent use.
type worker struct {
	program
	stopped chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	release string
	process *os.Process // nil between two lives
	lives   []life
	crashes int // ends by a panic
}

// startWorker starts a program and keeps it running.
func startWorker(p program, release string) *worker {
	w := &worker{program: p, release: release, stopped: make(chan struct{}), done: make(chan struct{})}
	go w.watch()
	return w
}

// watch runs one process after another. It keeps its thread: see
// [children.DieWithParent].
func (w *worker) watch() {
	defer close(w.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		begun := time.Now()
		err := w.runOnce()
		exit, _ := errors.AsType[*exec.ExitError](err)
		w.ended(exit != nil && exit.ExitCode() == goExitPanic)
		wait := time.Duration(0)
		if exit == nil || exit.ExitCode() >= 0 { // not killed: it would end again
			wait = max(0, restartPause-time.Since(begun))
		}
		select {
		case <-w.stopped:
			return
		case <-time.After(wait):
		}
	}
}

// runOnce runs one process to its end.
func (w *worker) runOnce() error {
	log, err := os.OpenFile(filepath.Join(w.logs, w.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process wrote to its own copy
	w.mu.Lock()
	command := exec.Command(filepath.Join(w.folders[w.release], w.binary), w.args...) //nolint:noctx // stop ends it
	command.Env, command.Stdout, command.Stderr = w.env, log, log
	// A group of its own, so that a terminal's Ctrl-C reaches chaos alone.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	children.DieWithParent(command.SysProcAttr, syscall.SIGKILL)
	select {
	case <-w.stopped:
		err = errors.New("stopped")
	default:
		err = command.Start()
	}
	if err == nil {
		w.process = command.Process
		w.lives = append(w.lives, life{release: w.release, from: time.Now()})
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return command.Wait()
}

func (w *worker) ended(crashed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process != nil {
		w.lives[len(w.lives)-1].to = time.Now()
	}
	w.process = nil
	if crashed {
		w.crashes++
	}
}

// signal signals the process that runs, and returns it; nil when none runs.
func (w *worker) signal(signal os.Signal) *os.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil || w.process.Signal(signal) != nil {
		return nil
	}
	return w.process
}

// kill is kill -9. It tells whether there was a process to kill.
func (w *worker) kill() bool { return w.signal(syscall.SIGKILL) != nil }

// freeze stops the process for a while. It tells whether the process slept that
// long and woke up.
func (w *worker) freeze(ctx context.Context, lasts time.Duration) bool {
	process := w.signal(syscall.SIGSTOP)
	if process == nil {
		return false
	}
	_ = pause.For(ctx, lasts)
	// Of a process that was killed meanwhile Signal says so.
	return process.Signal(syscall.SIGCONT) == nil && ctx.Err() == nil
}

// deploy ends the process in good order, and has the other release take its
// place. It tells whether there was a process to replace.
func (w *worker) deploy(ctx context.Context) bool {
	w.mu.Lock()
	w.release = map[string]string{current: next, next: current}[w.release]
	w.mu.Unlock()
	process := w.signal(syscall.SIGTERM)
	if process == nil {
		return false
	}
	for deadline := time.Now().Add(drainTimeout); w.runs(process) && ctx.Err() == nil; _ = pause.For(ctx, 10*time.Millisecond) {
		if time.Now().After(deadline) {
			_ = process.Kill()
		}
	}
	return true
}

func (w *worker) runs(process *os.Process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process == process
}

// history returns all lives so far, and how many ended by a panic.
func (w *worker) history() ([]life, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]life(nil), w.lives...), w.crashes
}

// stop ends the program for good. A process that is stopped is killed all the
// same.
func (w *worker) stop() {
	w.mu.Lock()
	close(w.stopped)
	w.mu.Unlock()
	w.kill()
	<-w.done
}

// awaitReady returns when the program can serve.
func (w *worker) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !children.Answers(ctx, w.ready) {
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready (%s); what it said is in %s: %w",
				w.name, w.ready, filepath.Join(w.logs, w.name+".log"), context.Cause(ctx))
		}
		_ = pause.For(ctx, 30*time.Millisecond)
	}
	return nil
}
