package rides

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A crew works on what is due, eventConcurrency at a time. What hangs holds one
// place, and holds up nothing else. One goroutine gives it work.
type crew struct {
	working context.Context //nolint:containedctx // the life of the tasks, which outlives that of who finds them
	end     context.CancelFunc
	places  chan struct{}
	group   sync.WaitGroup

	mu             sync.Mutex
	done, released int
	err            error
}

// eventConcurrency is how many subjects one process works on at once, and how
// many payment intents it closes. Each costs Stripe a request or two.
const eventConcurrency = 8

// newCrew returns a crew whose tasks may go on for a time after the end of ctx.
// The caller must call wait.
func newCrew(ctx context.Context, drain time.Duration) *crew {
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = pause.For(working, drain) // or until wait has seen their end
		cancel()
	})
	return &crew{
		working: working, end: func() { stop(); cancel() },
		places: make(chan struct{}, eventConcurrency),
	}
}

// wait waits for all tasks.
func (c *crew) wait() {
	c.group.Wait()
	c.end()
}

// A task is what this process has taken. It reports whether it is done; else it
// was released, and is due again later, or at once if ctx has ended. The error
// is one of the database.
type task func(ctx context.Context) (done bool, err error)

// A queue is where things wait until they are due.
type queue[T any] struct {
	// due lists some of what was due at a time, or is due now if that is nil.
	due func(ctx context.Context, before *time.Time) ([]T, error)
	// take makes a task of one of them, which is then no longer due. It returns
	// nil if another process was faster.
	take func(ctx context.Context, one T) (task, error)
}

// giveTo gives a crew what is due in a queue, until nothing is due any more. It
// returns the errors that have come about since the last call.
func (q queue[T]) giveTo(ctx context.Context, c *crew, before *time.Time) error {
	var err error
	for err == nil {
		var found []T
		if found, err = q.due(ctx, before); len(found) == 0 {
			break
		}
		// Several processes read the same list, and the shuffle keeps them
		// apart.
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		for _, one := range found {
			if stopped := c.enter(ctx); stopped != nil {
				return errors.Join(err, stopped, c.failures())
			}
			// Before the list is read again, which mustn't show it any more. If
			// a shutdown cut this off, what was taken would not be released.
			t, failed := q.take(c.working, one) //nolint:contextcheck // it has the values of ctx
			err = errors.Join(err, failed)
			c.start(t)
		}
	}
	return errors.Join(err, c.failures())
}

// enter waits for a place and takes it. Once ctx has ended it returns an error,
// even if a place was free.
func (c *crew) enter(ctx context.Context) error {
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

// start does a task in the place of the caller. nil is none.
func (c *crew) start(t task) {
	if t == nil {
		<-c.places
		return
	}
	c.group.Go(func() {
		defer func() { <-c.places }()
		done, err := t(c.working)
		c.mu.Lock()
		defer c.mu.Unlock()
		if done {
			c.done++
		} else {
			c.released++
		}
		c.err = errors.Join(c.err, err)
	})
}

// failures returns the errors of tasks that have ended since the last call.
func (c *crew) failures() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.err
	c.err = nil
	return err
}

// keepWorking works what falls due in a queue until ctx ends, and waits for what
// was begun.
func keepWorking[T any](ctx context.Context, run *eventRun, q queue[T], name string) {
	c := newCrew(ctx, run.Drain)
	defer c.wait()
	pause.Repeat(ctx, run.log, name, run.Poll, func(ctx context.Context) error { return q.giveTo(ctx, c, nil) })
}

// workOnce works everything that is due in a queue now. What is released is due
// again later than now, so that this ends. It returns how much was done, and
// how much was released.
func workOnce[T any](ctx context.Context, run *eventRun, q queue[T]) (done, released int, err error) {
	now, err := run.inbox.now(ctx)
	if err != nil {
		return 0, 0, err
	}
	c := newCrew(ctx, run.Drain)
	err = q.giveTo(ctx, c, &now)
	c.wait()
	return c.done, c.released, errors.Join(err, c.failures())
}
