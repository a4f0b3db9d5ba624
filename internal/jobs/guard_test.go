package jobs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// oneAtATime keeps a client from taking a job that its worker stands still on.
func oneAtATime(c *Config) { c.Concurrency = 1 }

// rescue does what River does to a job that has been running for too long.
func (b *bundle) rescue(t *testing.T) {
	t.Helper()
	b.exec(t, `UPDATE river.river_job SET state = 'available', scheduled_at = now() WHERE state = 'running'`)
}

// TestALateFailureHarmsNothing lets the first worker of a job stand still until
// the job was rescued and another worker is delivering it. Then the first one
// fails, in each of the ways in which it can. The job is delivered once, and
// done (I19).
func TestALateFailureHarmsNothing(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{
		"retry":    errors.New("the connection was closed"),
		"give up":  river.JobCancel(errors.New("refused")),
		"postpone": river.JobSnooze(0),
		"stop":     context.Canceled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.stage(t, "job_", 1)
			standing, fail := make(chan struct{}), make(chan struct{})
			stop := start(t, b.client(t, nil, func(context.Context, delivery[Receipt]) error {
				close(standing)
				<-fail
				return failure
			}, oneAtATime))
			<-standing
			sending, sent := make(chan struct{}), make(chan struct{})
			start(t, b.client(t, nil, func(ctx context.Context, job delivery[Receipt]) error {
				if n, _ := b.deliveries(); n == 0 {
					close(sending)
					<-sent
				}
				return b.deliver(ctx, job)
			}))
			b.rescue(t)
			<-sending
			close(fail)
			pgtest.Eventually(t, "the late failure is acknowledged", func() bool {
				return value[string](t, b, `SELECT state::text FROM river.river_job`) != "running"
			})
			go stop() // the first process is of no use any more
			close(sent)
			pgtest.Eventually(t, "the job is done", func() bool {
				return value[string](t, b, `SELECT state::text FROM river.river_job`) == "completed"
			})
			if _, times := b.deliveries(); times != 1 {
				t.Errorf("it was delivered %d times", times)
			}
		})
	}
}

// A late success is a success: nobody delivers the job again.
func TestALateSuccessCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 1)
	standing, wake := make(chan struct{}), make(chan struct{})
	start(t, b.client(t, nil, func(ctx context.Context, job delivery[Receipt]) error {
		if n, _ := b.deliveries(); n == 0 {
			_ = b.deliver(ctx, job)
			close(standing)
			<-wake
			return nil
		}
		return b.deliver(ctx, job)
	}))
	<-standing
	// Nobody takes it before its acknowledgement comes, but the job isn't
	// running any more.
	b.exec(t, `UPDATE river.river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour'`)
	close(wake)
	pgtest.Eventually(t, "the delivery is noted", func() bool {
		return value[bool](t, b, `SELECT metadata ? 'delivered' FROM river.river_job`)
	})
	b.exec(t, `UPDATE river.river_job SET state = 'available', scheduled_at = now()`)
	pgtest.Eventually(t, "the job is done", func() bool {
		return value[string](t, b, `SELECT state::text FROM river.river_job`) == "completed"
	})
	if _, times := b.deliveries(); times != 1 {
		t.Errorf("it was delivered %d times", times)
	}
}

// An attempt does nothing if its job is not its own any more, or may be given
// away before it ends.
func TestAnAttemptThatIsLateDoesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 1)
	c := b.client(t, nil, b.deliver)
	if _, err := c.relay(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]string{
		"taken long ago":   `attempted_at = now() - interval '4100 ms'`, // of 6 s, less two for the attempt
		"rescued":          `state = 'retryable'`,
		"taken by another": `attempted_at = now() + interval '1 ms'`,
	} {
		row := &rivertype.JobRow{ID: value[int64](t, b, `
			UPDATE river.river_job SET state = 'running', attempted_at = now(), attempt = 1 RETURNING id`)}
		b.exec(t, `UPDATE river.river_job SET `+change)
		begun := value[time.Time](t, b, `SELECT attempted_at FROM river.river_job`)
		if strings.HasPrefix(name, "taken by") {
			begun = begun.Add(-time.Millisecond)
		}
		row.AttemptedAt = &begun
		err := c.guard(t.Context(), row, func(context.Context) error {
			t.Errorf("%s: the attempt goes on", name)
			return nil
		})
		if !errors.As(err, new(*rivertype.JobSnoozeError)) {
			t.Errorf("%s: it ends with %v", name, err)
		}
	}
}

// A job that fails is tried again after a pause that grows by Stripe's formula,
// and is dead after the last attempt, or when its worker gives up.
func TestFailuresAreRepeatedAndThenDead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 2)
	b.exec(t, `UPDATE staged_jobs SET id = 'job_hopeless' WHERE id = 'job_2'`)
	failing := func(_ context.Context, job delivery[Receipt]) error {
		if job.ID == "job_hopeless" {
			return river.JobCancel(errors.New("no such address"))
		}
		return errors.New("the mail server is down")
	}
	once := func() Counts {
		t.Helper()
		counts, err := b.client(t, nil, failing).Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return counts
	}
	if got, want := once(), (Counts{Relayed: 2, Failed: 2, Dead: 1}); got != want {
		t.Errorf("the first round did %+v, want %+v", got, want)
	}
	// A slow machine needs some seconds from the beginning of an attempt to its end.
	const pause = `SELECT extract(epoch FROM scheduled_at - attempted_at)::float8 FROM river.river_job WHERE args ->> 'id' <> 'job_hopeless'`
	if got := value[float64](t, b, pause); got < 4 || got > 15 {
		t.Errorf("the first pause is %.1f s, want 5", got)
	}
	b.exec(t, `UPDATE river.river_job SET scheduled_at = now(), attempt = 9 WHERE args ->> 'id' <> 'job_hopeless'`)
	if got, want := once(), (Counts{Failed: 1, Dead: 1}); got != want {
		t.Errorf("the next round did %+v, want %+v", got, want)
	}
	if got := value[float64](t, b, pause); got < 0.5*2560-1 || got > 2560+10 { // 5 s · 2⁹, times 0.5 to 1
		t.Errorf("the tenth pause is %.0f s, want 1280 to 2560", got)
	}
	if got := once(); got != (Counts{Dead: 1}) {
		t.Errorf("before the job is due, a round did %+v", got)
	}
	b.exec(t, `UPDATE river.river_job SET scheduled_at = now(), attempt = $1 WHERE args ->> 'id' <> 'job_hopeless'`, maxAttempts-1)
	if got, want := once(), (Counts{Failed: 1, Dead: 2}); got != want {
		t.Errorf("the last round did %+v, want %+v", got, want)
	}
}

// All pauses together are about three days.
func TestRetriesTakeThreeDays(t *testing.T) {
	t.Parallel()
	var least, most time.Duration
	for n := range maxAttempts - 1 {
		longest := time.Duration(0)
		for range 200 {
			longest = max(longest, retries.Next(n+1))
		}
		most += longest
		least += max(longest/2, retries.Initial)
	}
	if day := 24 * time.Hour; least < 45*time.Hour || most > 4*day {
		t.Errorf("the retries take from %s to %s", least, most)
	}
}
