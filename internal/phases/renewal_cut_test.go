package phases_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestARenewalSurvivesEveryCut cuts, tears and holds each message of a renewal
// on a fresh connection. Whatever became of it, the next one renews the lease,
// and the request that it is renewed for is answered. While the message is
// held, another worker claims the key: then neither prolongs its lease.
func TestARenewalSurvivesEveryCut(t *testing.T) {
	t.Parallel()
	var pool *pgxpool.Pool
	b := setup(t, func(c *phases.Config) { pool = c.Pool })
	var messages []struct{ frames, answer int }
	b.renewWith(t, pool, "clean", func(_ int, message []byte) wire.Fault {
		messages = append(messages, struct{ frames, answer int }{frames: b.wire.Frames(message)})
		i := len(messages) - 1
		return wire.Fault{Answered: func(frames int) { messages[i].answer = frames }}
	}, false)
	if len(messages) < 2 {
		t.Fatalf("a renewal has %d messages, want one that prepares it and one that runs it", len(messages))
	}
	cases := 0
	for i, m := range messages {
		faults := []wire.Fault{{Kind: wire.CutBefore}, {Kind: wire.CutAfter}, {Kind: wire.CutSent}, {Kind: wire.HoldBefore}, {Kind: wire.HoldAfter}}
		for part := 1; part < m.frames; part++ {
			faults = append(faults, wire.Fault{Kind: wire.CutPart, Part: part})
		}
		for part := 1; part < m.answer; part++ {
			faults = append(faults, wire.Fault{Kind: wire.CutAnswer, Part: part})
		}
		for _, fault := range faults {
			cases++
			key := fmt.Sprint(i+1, " ", fault.Kind, " ", fault.Part)
			claimed := slices.Contains([]wire.Kind{wire.HoldBefore, wire.HoldAfter}, fault.Kind)
			fault.Hold = func() {
				b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', lease_epoch = lease_epoch + 1,
					leased_until = now() + interval '1 minute' WHERE key = $1`, key)
			}
			b.renewWith(t, pool, key, wire.On(i+1, fault), claimed)
		}
	}
	t.Logf("%d cases at %d messages", cases, len(messages))
}

// renewWith runs a request, and renews its lease during the call, first with
// faults and then without. claimed means that another worker claims the key
// meanwhile, for a minute.
func (b *bundle) renewWith(t *testing.T, pool *pgxpool.Pool, key string, plan wire.Plan, claimed bool) {
	t.Helper()
	left := func() float64 {
		return value[float64](t, b, `SELECT extract(epoch FROM leased_until - clock_timestamp())::float8 FROM idempotency_keys WHERE key = $1`, key)
	}
	b.carrier.set(hooks{before: func(context.Context, int) error {
		pool.Reset() // the renewal is prepared anew
		b.exec(t, `UPDATE idempotency_keys SET leased_until = now() + interval '5 seconds' WHERE key = $1`, key)
		b.wire.Plan(plan)
		b.engine.RenewAll()
		b.wire.Plan(wire.Nothing)
		b.engine.RenewAll()
		// The server may still be at the renewal whose connection was cut, and the
		// other one skips what that has locked.
		least, most := 10.0, 20.0
		if claimed {
			least, most = 30, 60
		}
		var got float64
		pgtest.Eventually(t, fmt.Sprintf("%s: the lease lasts %v seconds", key, least), func() bool {
			got = left()
			return got >= least
		})
		if got > most { // not above, because what is left falls by itself
			t.Errorf("%s: the lease lasts %v seconds more, want at most %v", key, got, most)
		}
		return nil
	}})
	_, err := b.run(t, key)
	if (err != nil) != claimed {
		t.Errorf("%s: the request ended with %v", key, err)
	}
	if !claimed {
		b.checkDone(t, key)
	}
	b.wire.Wait()
}
