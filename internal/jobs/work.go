package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// A delivery is a job as its worker gets it.
type delivery[J Job] struct {
	envelope
	Job J `json:"job"`

	// last reports whether this is the last attempt.
	last bool
}

// Kind returns the job's kind in River. It is a constant of J.
func (d delivery[J]) Kind() string { return riverKind(d.Job.kind(), d.Job.version()) }

// A worker delivers a job. It returns nil when there is nothing left to do: the
// job was delivered, or has become pointless. On any other error the job is
// tried again later; one that a retry can't help wraps river.JobCancel, and the
// job is dead at once, or errEnded. A worker may be called again for a job that
// it has delivered, and must then send the same.
//
// ctx ends after Config.Timeout.
type worker[J Job] func(ctx context.Context, job delivery[J]) error

// addWorker makes the client relay and work jobs of type J.
func addWorker[J Job](c *Client, work worker[J]) {
	var job J
	c.kinds = append(c.kinds, kind{name: job.kind(), version: job.version()})
	river.AddWorker(c.workers, river.WorkFunc(func(ctx context.Context, job *river.Job[delivery[J]]) error {
		job.Args.last = job.Attempt >= job.MaxAttempts
		return work(ctx, job.Args)
	}))
}

// deliveredNote is the member of a job's metadata that says that it is done.
const deliveredNote = "delivered"

var (
	// errLate ends an attempt that may have lost its job to another worker.
	errLate = errors.New("the attempt took too long: another worker may have the job")

	// errDelivered ends an attempt at a job that is done.
	errDelivered = errors.New("another attempt has delivered the job, or ended it")

	// errEnded ends a job that was not delivered and never will be, of which
	// its worker has kept a record. So the job isn't dead.
	errEnded = errors.New("the job has ended")
)

// guard is around every attempt at a job; see "Delivered twice" in doc.go. It
// also measures and logs the attempt.
func (c *Client) guard(ctx context.Context, row *rivertype.JobRow, work func(context.Context) error) error {
	start := time.Now()
	var job envelope
	_ = json.Unmarshal(row.EncodedArgs, &job) // what is no job of ours fails in its worker
	ctx, line := trace.Begin(trace.With(trace.FromStored(ctx, job.Trace), slog.String("job", job.ID), slog.String("kind", row.Kind),
		slog.String("account", job.Account), slog.String("key", job.Key), slog.Int("attempt", row.Attempt)))
	err := c.guarded(ctx, row, work)
	c.report(ctx, row, line, err, time.Since(start))
	switch {
	case errors.Is(err, errDelivered), errors.Is(err, errEnded) && !errors.Is(err, errLate):
		return nil
	case errors.Is(err, errLate):
		// By then no other attempt is running. This counts as no attempt.
		return river.JobSnooze(c.rescueAfter())
	default:
		return err
	}
}

// guarded makes an attempt, unless the job is done or may be another worker's.
func (c *Client) guarded(ctx context.Context, row *rivertype.JobRow, work func(context.Context) error) error {
	if isDelivered(row) {
		return errDelivered
	}
	held, err := c.holds(ctx, row, c.rescueAfter()-c.config.Timeout)
	if err != nil {
		return err
	}
	if !held {
		return errLate
	}
	if err = work(ctx); err == nil {
		return river.MetadataSet(ctx, deliveredNote, true)
	}
	// A context that has ended must not make this failure look like a late one.
	if held, asking := c.holds(context.WithoutCancel(ctx), row, c.rescueAfter()); asking != nil || !held {
		return errors.Join(errLate, err)
	}
	return err
}

// isDelivered reports whether an earlier attempt has delivered the job.
func isDelivered(row *rivertype.JobRow) bool {
	var metadata map[string]json.RawMessage
	_ = json.Unmarshal(row.Metadata, &metadata)
	return string(metadata[deliveredNote]) == "true"
}

// holds reports whether the job is still that of this attempt, which must have
// begun less than limit ago. The time at which an attempt began is unique among
// those of a job.
func (c *Client) holds(ctx context.Context, row *rivertype.JobRow, limit time.Duration) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = c.config.Pool.QueryRow(ctx, `
		SELECT EXISTS (
		  SELECT FROM river.river_job
		  WHERE id = $1 AND state = 'running' AND attempted_at = $2 AND attempted_at > now() - $3::interval)`,
		row.ID, row.AttemptedAt, limit).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("looking whether the job is still held: %w", err)
	}
	return held, nil
}

// report measures and logs an attempt.
func (c *Client) report(ctx context.Context, row *rivertype.JobRow, line *trace.Line, err error, took time.Duration) {
	result, level := "delivered", slog.LevelInfo
	switch {
	case errors.Is(err, errDelivered):
		result = "known"
	case errors.Is(err, errLate):
		result, level = "late", slog.LevelWarn
	case errors.Is(err, errEnded):
		result = "ended"
	case errors.As(err, new(*rivertype.JobSnoozeError)):
		result = "postponed"
	case errors.As(err, new(*rivertype.JobCancelError)), err != nil && row.Attempt >= row.MaxAttempts:
		result, level = "dead", slog.LevelError
	case err != nil:
		result, level = "failed", slog.LevelWarn
	}
	switch result {
	case "delivered":
		c.delivered.Add(1)
	case "failed", "dead":
		c.failed.Add(1)
	}
	c.metrics.observe(row.Kind, result, took)
	attributes := append([]slog.Attr{slog.String("result", result), slog.Float64("seconds", took.Seconds())}, line.Attrs()...)
	if err != nil {
		attributes = append(attributes, slog.Any("error", err))
	}
	c.log.LogAttrs(ctx, level, "job", attributes...)
}
