package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// roundFlags are the flags of a completer's rounds.
type roundFlags struct {
	Poll        time.Duration `help:"How long to wait when nothing was due." default:"1s" env:"POLL"`
	Concurrency int           `help:"How many keys are worked on at once. No account gets more of these places than are left for others." default:"64" env:"CONCURRENCY"`
	Retention   time.Duration `help:"How long a finished key is replayed." default:"72h" env:"RETENTION"`
	Tombstones  time.Duration `help:"How long after that a key is still known as expired." default:"720h" env:"TOMBSTONES"`
}

// minPoll is the shortest poll: jobs are looked for twice as often, and River
// looks at most every millisecond.
const minPoll = 2 * time.Millisecond

// checkRounds refuses settings that make no sense.
func (f roundFlags) checkRounds() error {
	switch {
	case f.Poll < minPoll:
		return fmt.Errorf("--poll must be at least %s", minPoll)
	case f.Concurrency < 1 || f.Retention <= 0 || f.Tombstones <= 0:
		return errors.New("--concurrency, --retention and --tombstones must be positive")
	}
	return nil
}

func (f roundFlags) completer(engine *phases.Engine) *phases.Completer {
	return &phases.Completer{
		Engine: engine, Poll: f.Poll, Concurrency: f.Concurrency, Retention: f.Retention, Tombstones: f.Tombstones,
	}
}

type completerRun struct {
	engineFlags
	roundFlags
	jobFlags
	daemonFlags
}

// Validate refuses settings that make no sense.
func (c *completerRun) Validate() error {
	return errors.Join(c.checkEngine(), c.checkRounds(), c.checkJobs(), c.checkDaemon())
}

// jobPages is where the admin listener shows jobs.
const jobPages = "/jobs"

// Run completes keys, and delivers jobs, until a signal.
func (c *completerRun) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	c.logStart(ctx, log, c.unusualCallbacks()...)
	metrics := newRegistry()
	parts, err := c.open(ctx, "completer", log, metrics)
	if err != nil {
		return err
	}
	defer parts.pool.Close()
	deliver, jobPool, err := c.openJobs(ctx, c.databaseFlags, jobs.Config{
		Poll: c.Poll / 2, Drain: workingTime(c.ShutdownTimeout), Logger: log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	defer jobPool.Close()
	var draining atomic.Bool
	d := daemon{
		engine: parts.engine, log: log, shutdownTimeout: c.ShutdownTimeout,
		drain: func() { draining.Store(true) },
	}
	defer d.close()
	pages, err := deliver.Page(ctx, jobPages)
	if err != nil {
		return err
	}
	handler := http.NewServeMux()
	handler.Handle("/", c.adminHandler(metrics, parts.ready(draining.Load)))
	handler.Handle(jobPages, pages)
	handler.Handle(jobPages+"/", pages)
	admin, err := d.listen(ctx, "admin-listen", c.AdminListen, handler)
	if err != nil {
		return err
	}
	parts.pin.Keep(ctx, log)
	log.InfoContext(ctx, "completing", slog.String("admin", admin))

	events := parts.eventWorker(log, metrics)
	events.Poll, events.Drain = c.Poll, workingTime(c.ShutdownTimeout)
	return d.serve(ctx, c.completer(parts.engine).Run, deliver.Run, events.Run)
}

// oncePoll is how often one round looks for jobs that are due.
const oncePoll = 100 * time.Millisecond

// errRoundEnded is why a round has failed that did not come to its end: whoever
// has it run, such as a Kubernetes Job, must know that there is more to do.
var errRoundEnded = errors.New("a signal ended the round early: what was begun is done or released, and the next round does the rest")

type completerOnce struct {
	engineFlags
	roundFlags
	jobFlags
	shutdownFlags
	jsonFlags
}

// Validate refuses settings that make no sense.
func (c *completerOnce) Validate() error {
	return errors.Join(c.checkEngine(), c.checkRounds(), c.checkJobs(), c.checkShutdown())
}

// onceCounts is what one round did.
type onceCounts struct {
	phases.Counts
	Events rides.EventCounts `json:"events"`
	Jobs   jobs.Counts       `json:"jobs"`
}

// text returns the counts for people.
func (c onceCounts) text() string {
	lines := fmt.Sprintf("finished %d, released %d, parked %d, taken by others %d, reaped %d, deleted %d\n",
		c.Finished, c.Released, c.Parked, c.Lost, c.Reaped, c.Deleted)
	lines += fmt.Sprintf("events: worked %d, released %d; payment intents closed %d\n", c.Events.Worked, c.Events.Released, c.Events.Closed)
	lines += fmt.Sprintf("jobs: relayed %d, delivered %d, failed %d\n", c.Jobs.Relayed, c.Jobs.Delivered, c.Jobs.Failed)
	if c.Waiting > 0 {
		lines += several(c.Waiting, "key waits", "keys wait") + " for a person: see completer keys list --parked\n"
	}
	if c.Jobs.Dead > 0 {
		lines += several(c.Jobs.Dead, "job is dead and waits", "jobs are dead and wait") + " for a person: see completer jobs list --dead\n"
	}
	return lines
}

// Run does one round and prints its counts.
func (c *completerOnce) Run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	c.logStart(ctx, log, c.unusualCallbacks()...)
	parts, err := c.open(ctx, "completer-once", log, nil)
	if err != nil {
		return err
	}
	defer parts.pool.Close()
	pinned := parts.pin.Check(ctx)
	if pinned != nil && !errors.Is(pinned, payments.ErrOtherAccount) {
		log.WarnContext(ctx, "nothing is sent in this round", slog.Any("error", pinned))
		pinned = nil
	}
	deliver, jobPool, err := c.openJobs(ctx, c.databaseFlags, jobs.Config{
		Poll: oncePoll, Drain: workingTime(c.ShutdownTimeout), Logger: log,
	})
	if err != nil {
		return err
	}
	defer jobPool.Close()
	events := parts.eventWorker(log, nil)
	events.Drain = workingTime(c.ShutdownTimeout)
	defer context.AfterFunc(ctx, func() {
		working, cancel := context.WithTimeout(context.WithoutCancel(ctx), workingTime(c.ShutdownTimeout))
		defer cancel()
		parts.engine.Shutdown(working)
	})()
	counts, err := c.round(ctx, events, c.completer(parts.engine), deliver)
	return errors.Join(o.Print(c.JSON, counts, counts.text()), pinned, err)
}

// round does one round of each part, also if another part fails: trouble with
// Stripe's events must keep back neither rides nor receipts.
func (c *completerOnce) round(ctx context.Context, events *rides.EventWorker, keys *phases.Completer, deliver *jobs.Client) (onceCounts, error) {
	var counts onceCounts
	errs := make([]error, 3)
	counts.Events, errs[0] = events.Once(ctx) // before the keys, which events make due
	counts.Counts, errs[1] = keys.Once(ctx)
	counts.Jobs, errs[2] = deliver.Once(ctx) // after the keys, whose ends cause jobs
	ended := func(err error) bool { return ctx.Err() != nil && errors.Is(err, context.Canceled) }
	if slices.ContainsFunc(errs, ended) {
		errs = append(slices.DeleteFunc(errs, ended), errRoundEnded)
	}
	return counts, errors.Join(errs...)
}
