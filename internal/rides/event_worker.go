package rides

import (
	"cmp"
	"context"
	"log/slog"
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
// nothing that came while a worker was about to park its key is forgotten. One
// that may be news to the ride only when the key is finished waits for that,
// also while the key is parked: nobody tells of it again.
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
	// Drain is how long what is being worked on may go on after the context of
	// Run, Once or Sweep has ended. What is left then is released, due at once.
	Drain time.Duration
	// Logger takes what a person must know. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers rides_stripe_events_… and more. nil means nowhere.
	Metrics prometheus.Registerer

	// orphanAge is how old a payment without a ride must be before a person is
	// told; 0 means 10 minutes. Until then a client's retry may make the ride
	// again.
	orphanAge time.Duration
}

// eventBackoff is how long an event is left alone that can't be worked.
func eventBackoff(attempts int) time.Duration {
	return phases.Backoff{Initial: time.Second, Max: 10 * time.Minute}.Next(attempts)
}

// eventPause is how long something is left alone whose task has failed. If the
// task's context has ended, another process works it at once.
func eventPause(ctx context.Context, attempts int) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	return eventBackoff(attempts)
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
	group.Go(func() { pause.Repeat(ctx, run.log, "counting events", tidyEvery, run.measure) })
	group.Go(func() {
		pause.Repeat(ctx, run.log, "reaping events", tidyEvery, func(ctx context.Context) error {
			_, err := run.inbox.reap(ctx)
			return err
		})
	})
	group.Go(func() { keepWorking(ctx, run, run.openIntents(), "closing payment intents") })
	keepWorking(ctx, run, run.events(), "working events")
}

// tidyEvery is how often events are counted, and old ones are reaped.
const tidyEvery = 10 * time.Second

// Once does one round: it works every event that is due when the round begins,
// closes every payment intent that is due then, and reaps.
func (w *EventWorker) Once(ctx context.Context) (EventCounts, error) {
	run := w.start()
	counts, err := run.once(ctx)
	if err == nil {
		counts.Reaped, err = run.inbox.reap(ctx)
	}
	return counts, err
}

// once works what is due, without reaping. The payment intents come after the
// events, which find some.
func (w *eventRun) once(ctx context.Context) (EventCounts, error) {
	var counts EventCounts
	var err error
	if counts.Worked, counts.Released, err = workOnce(ctx, w, w.events()); err != nil {
		return counts, err
	}
	counts.Closed, _, err = workOnce(ctx, w, w.openIntents())
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

// events is the queue of the subjects of events.
func (w *eventRun) events() queue[subject] {
	return queue[subject]{
		due: func(ctx context.Context, before *time.Time) ([]subject, error) {
			if w.Realm() == "" {
				return nil, nil
			}
			return w.inbox.due(ctx, w.Stripe.Live(), before)
		},
		take: func(ctx context.Context, s subject) (task, error) {
			t, err := w.inbox.take(ctx, s)
			if err != nil || len(t.events) == 0 {
				return nil, err
			}
			return func(ctx context.Context) (bool, error) { return w.workTaken(ctx, t) }, nil
		},
	}
}

// workTaken works the events of a subject. The error is one of the inbox.
func (w *eventRun) workTaken(ctx context.Context, t taken) (done bool, err error) {
	working, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	working, line := trace.Begin(trace.With(working, slog.String("object", t.id)))
	start := time.Now()
	out, err := w.work(working, t.subject)
	after := eventPause(ctx, t.attempts)
	ctx = context.WithoutCancel(working) // what came of it is noted, however late
	attrs := []slog.Attr{
		slog.Any("events", t.events), slog.Int("attempt", t.attempts), slog.String("account", out.account),
		slog.String("ride", out.ride), slog.Float64("seconds", time.Since(start).Seconds()),
	}
	attrs = append(attrs, line.Attrs()...)
	if err != nil {
		w.metrics.worked.WithLabelValues("failed").Inc()
		w.log.LogAttrs(ctx, slog.LevelWarn, "event not worked", append(attrs, slog.Any("error", err), slog.Float64("again_in_seconds", after.Seconds()))...)
		return false, w.inbox.release(ctx, t, after, phases.FitText(err.Error()))
	}
	w.metrics.worked.WithLabelValues(out.word).Inc()
	if out.waits {
		return false, w.inbox.release(ctx, t, cmp.Or(out.again, restingBackoff(t.attempts)), out.word)
	}
	w.log.LogAttrs(ctx, slog.LevelInfo, "event worked", append(attrs, slog.String("outcome", out.word))...)
	return true, w.inbox.finish(ctx, t, out)
}
