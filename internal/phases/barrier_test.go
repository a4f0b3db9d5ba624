package phases_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// barriers returns how many barriers were written.
func (b *bundle) barriers(t *testing.T) int {
	t.Helper()
	return value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.barrier'`)
}

// unconfirmed makes the server seem to warn that its standby did not confirm
// the given commits, counted from 1 over one engine.
func unconfirmed(commits ...int32) option {
	var asked atomic.Int32
	return func(c *phases.Config) {
		c.Unconfirmed = func(*pgx.Conn) bool { return slices.Contains(commits, asked.Add(1)) }
	}
}

// TestAnUnconfirmedCommitIsFollowedByABarrier: such a commit is acknowledged,
// but may be lost in a fail-over.
func TestAnUnconfirmedCommitIsFollowedByABarrier(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		commits   []int32
		abandoned bool
		barriers  int
	}{
		"the first transaction":        {commits: []int32{1}, barriers: 1},
		"the last transaction":         {commits: []int32{2}, barriers: 1},
		"a claim":                      {commits: []int32{1}, abandoned: true, barriers: 1},
		"a barrier that needs another": {commits: []int32{1, 2}, barriers: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if test.abandoned {
				_ = b.sendOnce(t, "k", hooks{before: lost})
			}
			b.engine = b.newEngine(t, nil, unconfirmed(test.commits...))
			b.mustRun(t, "k")
			b.checkDone(t, "k")
			if got := b.barriers(t); got != test.barriers {
				t.Errorf("%d barriers, want %d", got, test.barriers)
			}
		})
	}
}

// TestNothingIsSentWithoutABarrier: as long as no commit is confirmed, nothing
// is sent and no request is answered.
func TestNothingIsSentWithoutABarrier(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Unconfirmed = func(*pgx.Conn) bool { return true } })
	if _, err := b.run(t, "k"); !errors.Is(err, phases.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := len(b.carrier.sent()); got != 0 {
		t.Errorf("%d sends after a commit that no standby has", got)
	}
}
