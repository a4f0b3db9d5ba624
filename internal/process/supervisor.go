package process

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// longLife is how long a process must have lived for its end not to count as
// part of a loop of crashes.
const longLife = 10 * time.Second

// errExited is why a process ended that ended without an error.
var errExited = errors.New("exit status 0")

// A Process is what a Supervisor keeps running: a [Child], or a server whose
// process is one.
type Process interface {
	PID() int

	// Done is closed when the process has ended and may be started again. Then
	// Err says why it ended.
	Done() <-chan struct{}
	Err() error

	// Stop asks the process to end and returns when it has ended. It ends the
	// process at once when ctx ends.
	Stop(ctx context.Context) error
}

// A Program says how a Supervisor starts its process again.
type Program struct {
	// Start starts the next process. Its context ends when the Supervisor is
	// stopped.
	Start func(ctx context.Context) (Process, error)

	// Ended is called when a process has ended, or Start has failed, with the
	// reason and the pause that follows before the next start. It is not called
	// for the end that Stop brings about.
	Ended func(err error, pause time.Duration)

	// BackoffInitial is the pause after the end of a process. It doubles, up to
	// BackoffMax, with each process in a row that ends by itself soon after its
	// start, or does not start. A process that was killed did not fail: the
	// next one may run well.
	BackoffInitial, BackoffMax time.Duration
}

// A Supervisor keeps a program running: whenever its process ends, it starts
// the next one, until Stop.
type Supervisor struct {
	program Program
	cancel  context.CancelFunc
	force   chan context.Context // of Stop
	done    chan struct{}
	err     error // of the last process's Stop; it is read after done is closed
}

// Supervise keeps a program running whose first process the caller has started.
// The end of ctx does not stop it.
func Supervise(ctx context.Context, first Process, program Program) *Supervisor {
	s := &Supervisor{program: program, force: make(chan context.Context, 1), done: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go s.run(ctx, first)
	return s
}

// Stop stops the process and starts no other. It returns when the process has
// ended, with the error of the process's own Stop, which gets ctx. Call it
// once.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.force <- ctx
	s.cancel()
	<-s.done
	return s.err
}

// run runs one process after another until ctx ends.
func (s *Supervisor) run(ctx context.Context, first Process) {
	defer close(s.done)
	start := func(context.Context) (Process, error) { return first, nil }
	for failures := 0; ; failures++ {
		begun := time.Now()
		err := s.runOnce(ctx, start)
		if ctx.Err() != nil {
			return
		}
		if WasKilled(err) || time.Since(begun) > longLife {
			failures = 0
		}
		wait := s.program.backoff(failures)
		s.program.Ended(err, wait)
		if pause.For(ctx, wait) != nil {
			return
		}
		start = s.program.Start
	}
}

// runOnce runs one process and returns why it ended or did not start. When ctx
// ends, it stops the process.
func (s *Supervisor) runOnce(ctx context.Context, start func(context.Context) (Process, error)) error {
	p, err := start(ctx)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
		return cmp.Or(p.Err(), errExited)
	case <-ctx.Done():
		s.err = p.Stop(<-s.force) //nolint:contextcheck // it is the context of Supervisor.Stop; ctx has ended
		return ctx.Err()
	}
}

// backoff is the pause after so many failures in a row.
func (p Program) backoff(failures int) time.Duration {
	const mostDoublings = 16 // more could overflow
	return min(p.BackoffInitial<<min(failures, mostDoublings), p.BackoffMax)
}
