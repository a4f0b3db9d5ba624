package rides

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// An EventWorker works Stripe's events, and closes the payment intents of
// declined rides. Any number of workers can share a database.
//
// An event only says that there is something new. What is true is read from
// Stripe, once for all events about one object. What the worker then changes is
// fenced: it writes only to rides and keys that are as they were before it
// read. So events may come twice, late, in any order or never, and may be
// worked by two workers at once; all ends in the same state (I21).
//
// An event about a key that a worker holds, or that a look-up would end, waits
// until the key is at rest: finished, or parked. So it fences no worker, and
// nothing that came while a worker was about to park its key is forgotten.
type EventWorker struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// Engine tells which keys this process may carry on. Another process may
	// carry them on.
	Engine *phases.Engine
	// Stripe is asked what is true.
	Stripe *payments.Stripe
	// Realm is that of the engine's [phases.Config]. While it returns "",
	// nothing is done.
	Realm func() string
	// Poll is how long to wait after a round in which nothing was due.
	Poll time.Duration
	// Logger takes what a person must know. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers rides_stripe_events_… and more. nil means nowhere.
	Metrics prometheus.Registerer

	// orphanAge is how old a payment without a ride must be before a person is
	// told; 0 means 10 minutes. Until then a client's retry may make the ride
	// again.
	orphanAge time.Duration
}

// eventConcurrency is how many subjects one process works on at once. Each
// costs Stripe a request or two.
const eventConcurrency = 8

// eventBackoff is how long an event is left alone that can't be worked.
func eventBackoff(attempts int) time.Duration {
	return phases.Backoff{Initial: time.Second, Max: 10 * time.Minute}.Next(attempts)
}

// restingBackoff is how long an event waits for a key that is being worked on.
func restingBackoff(attempts int) time.Duration {
	return phases.Backoff{Initial: time.Second, Max: 30 * time.Second}.Next(attempts)
}

// EventCounts is what one round did.
type EventCounts struct {
	// Worked subjects are done, Released ones are tried again later.
	Worked   int `json:"worked"`
	Released int `json:"released"`
	// Closed are payment intents of declined rides.
	Closed int `json:"closed"`
	// Reaped events were old.
	Reaped int64 `json:"reaped"`
}

// Run works until ctx ends. An error of the database is logged, and the worker
// goes on.
func (w *EventWorker) Run(ctx context.Context) {
	run := w.start()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { run.repeat(ctx, "counting events", tidyEvery, run.measure) })
	group.Go(func() {
		run.repeat(ctx, "reaping events", tidyEvery, func(ctx context.Context) error {
			_, err := run.inbox.reap(ctx)
			return err
		})
	})
	group.Go(func() {
		run.repeat(ctx, "closing payment intents", w.Poll, func(ctx context.Context) error {
			_, err := run.closeIntents(ctx)
			return err
		})
	})
	run.repeat(ctx, "working events", w.Poll, func(ctx context.Context) error {
		for found := 1; found > 0 && ctx.Err() == nil; {
			counts, err := run.round(ctx)
			if err != nil {
				return err
			}
			found = counts.Worked + counts.Released
		}
		return nil
	})
}

// tidyEvery is how often events are counted, and old ones are reaped.
const tidyEvery = 10 * time.Second

// Once does one round: it works what is due, and reaps.
func (w *EventWorker) Once(ctx context.Context) (EventCounts, error) {
	run := w.start()
	counts, err := run.round(ctx)
	if err != nil {
		return counts, err
	}
	if counts.Closed, err = run.closeIntents(ctx); err != nil {
		return counts, err
	}
	counts.Reaped, err = run.inbox.reap(ctx)
	return counts, err
}

// An eventRun is an EventWorker at work.
type eventRun struct {
	*EventWorker

	inbox   inbox
	log     *slog.Logger
	metrics *eventMetrics
}

func (w *EventWorker) start() *eventRun {
	run := &eventRun{EventWorker: w, inbox: inbox{pool: w.Pool}, log: w.Logger, metrics: newEventMetrics(w.Metrics)}
	if run.orphanAge == 0 {
		run.orphanAge = 10 * time.Minute
	}
	if run.log == nil {
		run.log = slog.Default()
	}
	return run
}

// repeat runs a task from time to time, until ctx ends.
func (w *eventRun) repeat(ctx context.Context, task string, every time.Duration, run func(context.Context) error) {
	for ctx.Err() == nil {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			w.log.ErrorContext(ctx, "a task of the event worker failed: trying again", slog.String("task", task), slog.Any("error", err))
		}
		_ = pause.For(ctx, every) // the loop looks at ctx itself
	}
}

// round works the subjects that are due.
func (w *eventRun) round(ctx context.Context) (EventCounts, error) {
	var counts EventCounts
	if w.Realm() == "" {
		return counts, nil
	}
	due, err := w.inbox.due(ctx, w.Stripe.Live())
	if err != nil {
		return counts, err
	}
	// Several processes read the same list, and the shuffle keeps them apart.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	var group sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, eventConcurrency)
	for _, s := range due {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			done, failed := w.workSubject(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			counts.Worked, counts.Released = counts.Worked+done, counts.Released+1-done
			err = errors.Join(err, failed)
		})
	}
	group.Wait()
	return counts, err
}

// workSubject takes the events of a subject, works them, and returns 1 if they
// are done. The error is one of the inbox.
func (w *eventRun) workSubject(ctx context.Context, s subject) (done int, err error) {
	t, err := w.inbox.take(ctx, s)
	if err != nil || len(t.events) == 0 {
		return 0, err
	}
	// It goes on to its end also during a shutdown: a few seconds, mostly.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	ctx, line := trace.Begin(trace.With(ctx, slog.String("object", t.id)))
	start := time.Now()
	out, err := w.work(ctx, s)
	attrs := []slog.Attr{
		slog.Any("events", t.events), slog.Int("attempt", t.attempts), slog.String("account", out.account),
		slog.String("ride", out.ride), slog.Float64("seconds", time.Since(start).Seconds()),
	}
	attrs = append(attrs, line.Attrs()...)
	if err != nil {
		after := eventBackoff(t.attempts)
		w.metrics.worked.WithLabelValues("failed").Inc()
		w.log.LogAttrs(ctx, slog.LevelWarn, "event not worked", append(attrs, slog.Any("error", err), slog.Float64("again_in_seconds", after.Seconds()))...)
		return 0, w.inbox.release(ctx, t, after, fitError(err))
	}
	w.metrics.worked.WithLabelValues(out.word).Inc()
	if out.waits {
		return 0, w.inbox.release(ctx, t, cmp.Or(out.again, restingBackoff(t.attempts)), out.word)
	}
	w.log.LogAttrs(ctx, slog.LevelInfo, "event worked", append(attrs, slog.String("outcome", out.word))...)
	return 1, w.inbox.finish(ctx, t, out)
}
