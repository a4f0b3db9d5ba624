package sandbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/process"
)

// A child is a program that is started again whenever its process ends, until
// stop.
type child struct {
	program
	log        *sharedLog
	supervisor *process.Supervisor

	// failed gets the first error of a process that was not killed.
	failed chan error
}

// startChildren starts programs in their order, each when the one before is
// ready: the api and the completer ask Stripe as they start whose its key is,
// and refuse rides until they know. stop, which is never nil, stops those that
// were started, in the reverse order, and does not wait when force ends.
func (s *sandbox) startChildren(ctx, force context.Context, programs []program) (stop func(), err error) {
	var started []*child
	stop = func() {
		for _, c := range slices.Backward(started) {
			c.stop(force)
		}
	}
	for _, p := range programs {
		c, err := s.startChild(ctx, p)
		if err != nil {
			return stop, err
		}
		started = append(started, c)
		if err := c.awaitReady(ctx); err != nil {
			return stop, err
		}
	}
	return stop, nil
}

// startChild starts a program.
func (s *sandbox) startChild(ctx context.Context, p program) (*child, error) {
	s.log.printf("starting %s on %s", p.name, p.address)
	first, err := p.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	return s.supervise(ctx, p, first), nil
}

// supervise keeps a program running whose first process has been started.
// sandbox.json names each process.
func (s *sandbox) supervise(ctx context.Context, p program, first process.Process) *child {
	c := &child{program: p, log: s.log, failed: make(chan error, 1)}
	s.setPID(p.name, first.PID())
	c.supervisor = process.Supervise(ctx, first, process.Program{
		Start: func(ctx context.Context) (process.Process, error) {
			next, err := p.start(ctx)
			if err == nil {
				s.setPID(p.name, next.PID())
			}
			return next, err
		},
		Ended:          c.ended,
		BackoffInitial: 50 * time.Millisecond,
		BackoffMax:     10 * time.Second,
	})
	return c
}

func (s *sandbox) setPID(name string, pid int) {
	if err := s.stateFile.setPID(name, pid); err != nil {
		s.log.printf("%v", err)
	}
}

// ended logs that a process has ended or was not started, before the next
// start.
func (c *child) ended(err error, wait time.Duration) {
	c.output.flush()
	if !process.WasKilled(err) {
		select {
		case c.failed <- err:
		default: // it holds an earlier error
		}
	}
	c.log.printf("%s does not run (%v); starting it again in %s", c.name, err, wait)
}

// awaitReady returns when the process is ready, or with the reason why it will
// not be.
func (c *child) awaitReady(ctx context.Context) error {
	if err := process.AwaitReady(ctx, c.ready, c.failed); err != nil {
		return fmt.Errorf("%s does not start: %w; its log is above", c.name, err)
	}
	return nil
}

// stop ends the process and returns when it has ended. The process is killed
// after its grace, or when force ends.
func (c *child) stop(force context.Context) {
	c.log.printf("stopping %s", c.name)
	force, cancel := context.WithTimeout(force, c.grace)
	defer cancel()
	if err := c.supervisor.Stop(force); err != nil {
		c.log.printf("%v", err)
	}
	c.output.flush()
}
