package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
)

const (
	// statementTimeout bounds one short piece of work with the database.
	statementTimeout = 5 * time.Second

	// maxAttempts times the pauses of retries come to about three days: with
	// the factor's mean, 4 hours for the first twelve and 3 hours for each of
	// the others.
	maxAttempts = 35

	// rescueFactor times Config.Timeout is how long an attempt may run before
	// its job is given to another worker.
	rescueFactor = 3

	// keepEnded is how long River keeps jobs that are done. Dead ones are kept
	// for a week longer than anybody should take to look at them.
	keepEnded = 24 * time.Hour
	keepDead  = 14 * 24 * time.Hour
)

// retries is the pause before a job is tried again.
//
//nolint:gochecknoglobals // a constant, in effect
var retries = phases.Backoff{Initial: 5 * time.Second, Max: 4 * time.Hour}

// Config is what a Client needs.
type Config struct {
	// Pool is the database. River uses up to about four connections.
	Pool *pgxpool.Pool
	// Poll is how often staged jobs, and jobs that are due, are looked for.
	Poll time.Duration
	// Timeout bounds one attempt at one job. The job of a process that died is
	// taken over after three times as long.
	Timeout time.Duration
	// Concurrency is how many jobs of each kind are worked on at once, and
	// CallbackConcurrency how many callbacks: what they wait for are strangers.
	Concurrency, CallbackConcurrency int
	// Callbacks says where callbacks may go. nil means public addresses only.
	Callbacks *callbacks.Guard
	// Drain is how long the end of Run waits for jobs that are being worked on.
	// What is left then is given back.
	Drain time.Duration
	// Mail sends e-mails. nil means that they are logged and not sent.
	Mail *Mail
	// Logger takes one line for each attempt. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers rides_jobs_…. nil means nowhere.
	Metrics prometheus.Registerer
}

// A Client relays and works jobs. Make one for each process. It is safe for
// concurrent use.
type Client struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	sender  *callbacks.Sender
	lanes   *lanes

	riverLog *slog.Logger
	river    *river.Client[pgx.Tx]
	workers  *river.Workers
	kinds    []kind

	// How many jobs this client has delivered, and how many attempts failed.
	delivered, failed atomic.Int64
}

// A kind is a kind of job, in one version, that the client knows.
type kind struct {
	name    string
	version int
}

// concurrency is how many jobs of a kind are worked on at once.
func (c *Client) concurrency(k kind) int {
	if k.name == (Callback{}).kind() {
		return c.config.CallbackConcurrency
	}
	return c.config.Concurrency
}

// NewClient returns a client. It does nothing before Run or Once.
func NewClient(config Config) (*Client, error) { return newClient(config, (*Client).addWorkers) }

// newClient returns a client whose workers are those that add adds.
func newClient(config Config, add func(*Client)) (*Client, error) {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Callbacks == nil {
		config.Callbacks = callbacks.NewGuard()
	}
	config.CallbackConcurrency = max(config.CallbackConcurrency, 1)
	c := &Client{
		config: config, log: config.Logger, metrics: newMetrics(config.Metrics), workers: river.NewWorkers(),
		sender: callbacks.NewSender(config.Callbacks), lanes: newLanes(config.CallbackConcurrency),
	}
	c.riverLog = slog.New(warnings{config.Logger.Handler()})
	add(c)
	queues := make(map[string]river.QueueConfig)
	for _, known := range c.kinds {
		queues[known.name] = river.QueueConfig{MaxWorkers: c.concurrency(known)}
	}
	var err error
	c.river, err = river.NewClient(riverpgxv5.New(config.Pool), &river.Config{
		Schema:              postgres.RiverSchema,
		PollOnly:            true, // no LISTEN, which a transaction pooler breaks
		FetchOnlyKnownKinds: true,
		FetchPollInterval:   config.Poll,
		FetchCooldown:       min(config.Poll, river.FetchCooldownDefault),
		Queues:              queues,
		Workers:             c.workers,
		Middleware: []rivertype.Middleware{
			river.WorkerMiddlewareFunc(c.keepLane), // around guard, which asks the database
			river.WorkerMiddlewareFunc(c.guard),
			river.JobInsertMiddlewareFunc(keepTimes),
		},

		JobTimeout:           config.Timeout,
		RescueStuckJobsAfter: c.rescueAfter(),
		RetryPolicy:          retryPolicy{},
		MaxAttempts:          maxAttempts,
		SoftStopTimeout:      config.Drain,

		CompletedJobRetentionPeriod: keepEnded,
		CancelledJobRetentionPeriod: keepDead,
		DiscardedJobRetentionPeriod: keepDead,
		// REINDEX outlasts the role's statement_timeout on a large table, and
		// leaves a broken index behind that slows every write.
		ReindexerIndexNames: []string{},
		Logger:              c.riverLog,
	})
	if err != nil {
		return nil, fmt.Errorf("making River's client: %w", err)
	}
	return c, nil
}

// addWorkers adds a worker for every kind of job.
func (c *Client) addWorkers() {
	addWorker(c, c.sendReceipt)
	addWorker(c, c.deliverCallback)
	addWorker(c, c.sendSwitchedOff)
}

// rescueAfter is how long an attempt may run before its job is rescued.
func (c *Client) rescueAfter() time.Duration { return rescueFactor * c.config.Timeout }

// known returns the names and the versions of the kinds that the client knows.
func (c *Client) known() (names []string, versions []int) {
	for _, k := range c.kinds {
		names, versions = append(names, k.name), append(versions, k.version)
	}
	return names, versions
}

// Run relays and works jobs until ctx ends, and returns when all that it works
// on has ended. An error of the database is logged, and Run goes on.
func (c *Client) Run(ctx context.Context) {
	if !c.start(ctx) {
		return
	}
	var group sync.WaitGroup
	group.Go(func() {
		pause.Repeat(ctx, c.log, "relaying jobs", c.config.Poll, func(ctx context.Context) error {
			_, err := c.relay(ctx)
			return err
		})
	})
	group.Go(func() { pause.Repeat(ctx, c.log, "counting jobs", countEvery, c.count) })
	group.Go(func() { pause.Repeat(ctx, c.log, "deleting old callbacks", deleteEvery, c.deleteOldCallbacks) })
	group.Wait()
	<-c.river.Stopped()
}

// start starts River, which needs the database for that, and reports whether it
// did before ctx ended.
func (c *Client) start(ctx context.Context) (started bool) {
	trying, stop := context.WithCancel(ctx)
	defer stop()
	pause.Repeat(trying, c.log, "starting River", c.config.Poll, func(context.Context) error {
		err := c.river.Start(ctx)
		if err == nil {
			started = true
			stop()
		}
		return err
	})
	return started
}

// retryPolicy is retries, as River asks for it.
type retryPolicy struct{}

// NextRetry returns when a job that failed is tried again.
func (retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	return time.Now().UTC().Add(retries.Next(job.Attempt))
}

// warnings passes on what River says from warnings upward. The client has a
// line of its own for each attempt.
type warnings struct{ slog.Handler }

// Enabled reports whether a line of this level is passed on.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// WithAttrs keeps the limit.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the limit.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
