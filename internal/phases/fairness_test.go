package phases_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// abandonOf leaves n keys of an account abandoned after their first send, due
// now.
func (b *bundle) abandonOf(t *testing.T, account string, n int) {
	t.Helper()
	b.carrier.set(hooks{before: lost})
	for i := range n {
		r := request(fmt.Sprint(account, "-", i))
		r.Account = account
		if _, err := b.engine.Run(t.Context(), b.flow, r); err == nil {
			t.Fatal("the carrier answered")
		}
	}
	b.carrier.set(hooks{})
	b.expire(t)
}

// finishedOf returns how many keys of an account are finished.
func (b *bundle) finishedOf(t *testing.T, account string) int {
	t.Helper()
	return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE account_id = $1 AND finished_at IS NOT NULL`, account)
}

// hangingFor returns the flow under test with calls that hang for the keys of
// one account, and a channel with a value for each call that hangs.
func (b *bundle) hangingFor(account string, leave <-chan struct{}) (phases.Flow, <-chan struct{}) {
	hang := make(chan struct{}, 1000)
	return phases.NewFlow("parcel", 1,
		phases.Atomic(packed, b.carrier.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: b.carrier.prepare,
			Do: func(ctx context.Context, sent phases.Sent[bookingForm]) (booking, error) {
				if strings.HasPrefix(string(sent.Form), "parcel="+account) {
					hang <- struct{}{}
					<-leave
				}
				return b.carrier.do(ctx, sent)
			},
			Find: b.carrier.find, Record: record,
		}),
		phases.Atomic(phases.Finished, printLabel),
	), hang
}

// TestAnAccountWhoseKeysHangLeavesPlacesForOthers: an account has far more keys
// due than the completer has places, all due for longer than those of others,
// and the other side never answers any of them. The keys of the others are
// finished all the same, also those that fall due later (I18).
func TestAnAccountWhoseKeysHangLeavesPlacesForOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const poisoned, others = 100, 30
	b.abandonOf(t, "acct_hangs", poisoned)
	b.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 hour'`)
	hangUp := make(chan struct{})
	leave := sync.OnceFunc(func() { close(hangUp) })
	defer leave()
	flow, hang := b.hangingFor("acct_hangs", hangUp)
	engine := b.newEngine(t, nil, func(c *phases.Config) {
		c.Flows = []phases.Flow{flow}
		c.Lease, c.CallTimeout = time.Minute, 50*time.Second
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.completer(engine).Run(ctx) }()
	const most = 5 // of 8 places
	for range most {
		<-hang
	}
	for _, account := range []string{"acct_1", "acct_2"} {
		b.abandonOf(t, account, others)
		pgtest.Eventually(t, "the other accounts' keys are finished", func() bool { return b.finishedOf(t, account) == others })
	}
	if n := len(hang); n > 0 || b.finishedOf(t, "acct_hangs") > 0 {
		t.Errorf("%d places were taken beyond %d", n, most)
	}
	leave()
	pgtest.Eventually(t, "the keys that hung are finished", func() bool { return b.finishedOf(t, "acct_hangs") == poisoned })
	cancel()
	<-done
}

// TestOnceTriesTheKeysOfAnAccountThatHasAllItsPlaces: the round isn't over
// while keys wait for a place.
func TestOnceTriesTheKeysOfAnAccountThatHasAllItsPlaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, concurrency := range []int{1, 2, 8} {
		b.abandonOf(t, "acct_1", 50)
		b.abandonOf(t, "acct_2", 3)
		completer := b.completer(b.newEngine(t, nil))
		completer.Concurrency = concurrency
		counts, err := completer.Once(t.Context())
		if err != nil || counts.Finished != 53 {
			t.Errorf("with %d places a round did %+v, %v; want 53 finished", concurrency, counts, err)
		}
		b.exec(t, `TRUNCATE idempotency_keys, parcels`)
	}
}
