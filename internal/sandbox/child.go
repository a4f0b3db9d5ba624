package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/children"
	"github.com/rocketrides/rocketrides/internal/pause"
)

const (
	// readyTimeout bounds the start of a child.
	readyTimeout = 30 * time.Second

	// longLife is how long a child must have lived for its end to be no part of
	// a loop of crashes.
	longLife = 10 * time.Second
)

// program says how one of the children is run.
type program struct {
	name string
	args []string
	env  []string

	// doors are the addresses that it serves, the main one first. It is started
	// again on the same.
	doors []*door

	// ready answers 200 when it can serve.
	ready string

	// grace is how long it may take to end.
	grace time.Duration
}

// A child is a program that runs as a process of its own, and is started again
// whenever it ends, until stop.
type child struct {
	program
	tether  *tether
	said    *transcript
	started func(name string, pid int)

	end, kill context.CancelFunc
	done      chan struct{}

	// failed gets the first error of a program that ended by itself.
	failed chan error
}

// launch starts a program. It lives until stop; ctx is not to end before.
// started hears of every process.
func launch(ctx context.Context, p program, t *tether, said *transcript, started func(string, int)) *child {
	c := &child{program: p, tether: t, said: said, started: started, done: make(chan struct{}), failed: make(chan error, 1)}
	life, kill := context.WithCancel(ctx)
	asked, end := context.WithCancel(life)
	c.end, c.kill = end, kill
	for _, d := range p.doors {
		d.release()
	}
	go c.watch(asked, life)
	return c
}

// stop asks the program to end and returns when it has ended. After its grace,
// or when force ends, it is killed.
func (c *child) stop(force context.Context) {
	c.said.sayf("stopping %s", c.name)
	force, cancel := context.WithTimeout(force, c.grace)
	defer cancel()
	c.end()
	select {
	case <-c.done:
	case <-force.Done():
		c.kill()
		<-c.done
	}
	c.kill() // nobody is left; this frees the context
}

// watch runs the program until asked ends, and kills it when life ends.
func (c *child) watch(asked, life context.Context) {
	defer close(c.done)
	// Linux takes the end of the *thread* that started a child for its parent's
	// death (see [children.DieWithParent]), and Go ends threads as it likes.
	runtime.LockOSThread()
	for failures := 0; ; failures++ {
		begun := time.Now()
		err := c.runOnce(asked, life)
		if asked.Err() != nil {
			return
		}
		// Whoever kills a child wants to see it come back. One that ends by
		// itself would do so again.
		if wasKilled(err) || time.Since(begun) > longLife {
			failures = 0
		}
		c.tell(err)
		delay := backoff(failures)
		c.said.sayf("%s ended (%v); it is started again in %s", c.name, err, delay)
		if pause.For(asked, delay) != nil {
			return
		}
	}
}

// tell lets a start that waits know that there is nothing to wait for. What
// kills a child will not kill the next one.
func (c *child) tell(err error) {
	if wasKilled(err) {
		return
	}
	select {
	case c.failed <- err:
	default: // nobody asked yet for the one before
	}
}

// runOnce runs one process to its end.
func (c *child) runOnce(asked, life context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	voice := c.said.of(c.name)
	defer voice.finish()
	cmd := exec.CommandContext(life, self, append([]string{childArgument, c.name}, c.args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, voice, voice
	cmd.ExtraFiles = []*os.File{c.tether.child} // the first one is tetherFD
	// A group of its own, so that a terminal's Ctrl-C reaches the sandbox
	// alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	children.DieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	if err := cmd.Start(); err != nil {
		return err
	}
	c.started(c.name, cmd.Process.Pid)
	forget := context.AfterFunc(asked, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer forget()
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// wasKilled tells whether a process was ended by a signal.
func wasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == -1
}

// awaitReady returns when the program can serve, or with the reason why it
// won't.
func (c *child) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !children.Answers(ctx, c.ready) {
		select {
		case err := <-c.failed:
			return fmt.Errorf("%s does not start: %w; what it said stands above", c.name, err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%s); what it said stands above: %w", c.name, c.ready, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// backoff is the pause before a program is started again, after so many
// failures in a row: it doubles from 50 ms to 10 s.
func backoff(failures int) time.Duration {
	return min(50*time.Millisecond<<min(failures, 10), 10*time.Second)
}
