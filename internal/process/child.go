// Package process runs child processes that end with this process, and starts
// those that must always run again whenever they end.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// A Child is a child process. It has a process group of its own, so that a
// terminal's Ctrl-C does not reach it. On Linux it ends when this process ends,
// even by kill -9. Its methods are safe for concurrent use.
type Child struct {
	process *os.Process
	done    chan struct{}
	err     error // of Wait; it is read after done is closed
}

// Start starts cmd. On Linux the kernel sends orphaned to the child when this
// process ends; SIGKILL also ends a child that is stopped. Other systems have
// no such signal.
func Start(cmd *exec.Cmd, orphaned syscall.Signal) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	signalOrphan(cmd.SysProcAttr, orphaned)
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started the child
		// ends, and Go ends threads as it likes. So this goroutine keeps its
		// thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Run starts cmd as [Start] does and waits for its end.
func Run(cmd *exec.Cmd, orphaned syscall.Signal) error {
	c, err := Start(cmd, orphaned)
	if err != nil {
		return err
	}
	<-c.done
	return c.err
}

// PID is the process id.
func (c *Child) PID() int { return c.process.Pid }

// Done is closed when the child has ended and all its output was read.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is why the child ended: nil for exit status 0. Call it after Done is
// closed.
func (c *Child) Err() error { return c.err }

// Signal sends a signal. It returns an error if the child has ended.
func (c *Child) Signal(signal os.Signal) error { return c.process.Signal(signal) }

// Stop sends SIGTERM and returns when the child has ended. When ctx ends first,
// it kills the child and returns an error that says so.
func (c *Child) Stop(ctx context.Context) error {
	_ = c.Signal(syscall.SIGTERM) // it fails if the child has ended already
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		_ = c.Signal(syscall.SIGKILL)
		<-c.done
		return fmt.Errorf("the process was killed: it had not ended yet: %w", context.Cause(ctx))
	}
}

// WasKilled reports whether err, of a child that has ended, says that a signal
// ended it.
func WasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == -1
}
