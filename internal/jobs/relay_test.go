package jobs

import (
	"context"
	"fmt"
	"testing"
)

// Relays of several processes move each job once.
func TestRelaysShareTheWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const jobs = 3*relayBatch + 7
	b.stage(t, "job_", jobs)
	failed := make(chan error, 4)
	for range cap(failed) {
		c := b.client(t, nil, b.deliver)
		go func() {
			var err error
			for ctx := t.Context(); err == nil; {
				var staged bool
				if staged, err = c.anyStaged(ctx); !staged {
					break
				}
				_, err = c.relay(ctx)
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	b.checkRelayed(t, "job_", jobs)
}

// What this process doesn't know is left to a newer one, staged or relayed.
func TestUnknownKindsAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 2)
	b.exec(t, `UPDATE staged_jobs SET version = 2 WHERE id = 'job_1'`)
	b.exec(t, `INSERT INTO river.river_job (kind, args, max_attempts, queue) VALUES ('receipt/2', '{}', 5, 'receipt')`)
	c := b.client(t, nil, b.deliver)
	counts, err := c.Once(t.Context())
	if err != nil || counts != (Counts{Relayed: 1, Delivered: 1}) {
		t.Errorf("it did %+v (%v), want the job that it knows", counts, err)
	}
	if n := value[int](t, b, `SELECT (SELECT count(*) FROM staged_jobs) + (SELECT count(*) FROM river.river_job
		WHERE state = 'available' AND attempt = 0)`); n != 2 {
		t.Errorf("%d of 2 jobs are left", n)
	}
}

// A job keeps the time at which it was staged, so that the clock of the relay
// can't delay it, and everything that its worker needs to know.
func TestRelayKeepsWhatWasStaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 1)
	b.exec(t, `UPDATE staged_jobs SET trace = 'the trace', created_at = now() - interval '1 hour'`)
	staged := value[string](t, b, `
		SELECT format('%s %s %s %s', account_id, id, key, extract(epoch FROM created_at)) FROM staged_jobs`)
	seen := make(chan delivery[Receipt], 1)
	c := b.client(t, nil, func(_ context.Context, job delivery[Receipt]) error {
		seen <- job
		return nil
	})
	if _, err := c.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	job := <-seen
	if got := fmt.Sprintf("%s %s %s %d.%06d", job.Account, job.ID, job.Key, job.StagedAt.Unix(), job.StagedAt.Nanosecond()/1000); got != staged {
		t.Errorf("the worker got %s, staged was %s", got, staged)
	}
	if want := (Receipt{RideID: "ride_1", Amount: 2350, Currency: "usd"}); job.Job != want || job.Trace != "the trace" {
		t.Errorf("the worker got %+v", job)
	}
	if !value[bool](t, b, `SELECT created_at = scheduled_at AND created_at < now() - interval '59 minutes' FROM river.river_job`) {
		t.Error("River has other times than that of the staging")
	}
}
