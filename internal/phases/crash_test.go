package phases_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestACutAtEveryMessage cuts the connection to Postgres at each message in
// turn: before the server sees it, after it has acted, and in between. Then a
// client, the completer, or both go on, and everything must have happened once.
// No message is named: the last k is the one at which a run is not cut any
// more.
func TestACutAtEveryMessage(t *testing.T) {
	t.Parallel()
	modes := map[string][]option{"fused": nil, "stepwise": {stepwise}}
	for mode, options := range modes {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent} {
			for _, recovery := range []string{"client", "completer", "both"} {
				t.Run(fmt.Sprintf("%s/%s/%s", mode, kind, recovery), func(t *testing.T) {
					t.Parallel()
					b := setup(t, options...)
					b.mustRun(t, "warm")
					for k := 1; ; k++ {
						key := fmt.Sprint("k", k)
						b.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
						_, err := b.run(t, key)
						uncut := b.wire.Messages() < k
						b.wire.Plan(wire.Nothing)
						b.recover(t, recovery, key)
						b.checkDone(t, key)
						if t.Failed() {
							t.Fatalf("after %s at message %d, which was answered with %v", kind, k, err)
						}
						if uncut {
							if k < 4 {
								t.Fatalf("only %d messages were cut", k-1)
							}
							return
						}
					}
				})
			}
		}
	}
}

// recover brings a key to its end after a fault, in one of three ways.
func (b *bundle) recover(t *testing.T, how, key string) {
	t.Helper()
	b.expire(t)
	switch how {
	case "client":
		b.mustRun(t, key)
	case "completer":
		b.complete(t)
		b.mustRun(t, key) // the fault may have kept the key from being made
	case "both":
		var group sync.WaitGroup
		completer := b.completer(b.newEngine(t, nil))
		group.Go(func() { _, _ = completer.Once(t.Context()) })
		group.Go(func() { _, _ = b.engine.Run(t.Context(), b.flow, request(key)) })
		group.Wait()
		b.expire(t)
		b.mustRun(t, key)
	}
}

// TestAZombieChangesNothing: a worker sleeps past its lease at each of its
// messages, before the server sees it or after it has acted. It wakes when
// another worker has claimed the key, or has even finished it. It must change
// nothing (I7, I8).
func TestAZombieChangesNothing(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		for _, kind := range []wire.Kind{wire.HoldBefore, wire.HoldAfter} {
			t.Run(fmt.Sprintf("%s/%s", mode, kind), func(t *testing.T) {
				t.Parallel()
				b := setup(t, options...)
				b.mustRun(t, "warm")
				for k := 1; ; k++ {
					key := fmt.Sprint("k", k)
					asleep, wake := make(chan struct{}), make(chan struct{})
					b.wire.Plan(wire.On(k, wire.Fault{Kind: kind, Hold: func() { close(asleep); <-wake }}))
					var result phases.Result
					var err error
					done := make(chan struct{})
					go func() {
						defer close(done)
						result, err = b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request(key))
					}()
					select {
					case <-asleep:
					case <-done: // it never came to message k
						if k < 4 {
							t.Fatalf("only %d messages were held", k-1)
						}
						return
					}
					b.expire(t)
					b.complete(t)
					before := b.snapshot(t, key)
					close(wake)
					<-done
					b.wire.Plan(wire.Nothing)
					if before != "" && b.snapshot(t, key) != before {
						t.Errorf("message %d: the zombie changed %s to %s", k, before, b.snapshot(t, key))
					}
					if err == nil && string(result.Answer.Body) != string(b.mustRun(t, key).Answer.Body) {
						t.Errorf("message %d: the zombie answered %q", k, result.Answer.Body)
					}
					b.mustRun(t, key)
					b.checkDone(t, key)
					if t.Failed() {
						t.FailNow()
					}
				}
			})
		}
	}
}
