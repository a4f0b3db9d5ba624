package phases_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// read has the flow's first phase read before it decides.
func read(tx *phases.Tx, key phases.Key) (*phases.Outcome, error) {
	var parcels int
	return nil, tx.QueryRow(`SELECT count(*) FROM parcels WHERE account_id = $1`, key.Account).Scan(&parcels)
}

// TestATransactionThatReadsRunsAgain: the connection breaks while a phase reads,
// as each of the pool's does after a restart of Postgres. Nothing can have
// committed, so the transaction runs again, and the client learns of nothing.
func TestATransactionThatReadsRunsAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.set(hooks{pack: read})
			cut := -1 // the first read is that of a warm-up
			b.wire.Plan(func(_ int, message []byte) wire.Fault {
				if strings.Contains(b.wire.Summary(message), "run SELECT FROM parcels") {
					if cut++; cut == 1 || cut == 2 {
						return wire.Fault{Kind: kind}
					}
				}
				return wire.Fault{}
			})
			b.mustRun(t, "warm")
			b.mustRun(t, "k")
			b.wire.Plan(wire.Nothing)
			if cut != 3 {
				t.Errorf("it read %d times, want 3", cut)
			}
		})
	}
}

// TestARowThatIsGoneIsForgotten: the connection is lost behind the row of a key,
// and where the row is read again there is none, as on a standby that took over
// without it. Nothing of what was read first is believed.
func TestARowThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	const row = 3 // frames of the answer to a look-up: what is bound and described, then the row
	for name, doubt := range map[string]bool{"by a look-up": false, "in a doubt": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.finished(t, 1)
			if !doubt {
				b.mustRun(t, "k")
			}
			found := 0 // how often the row was found
			b.wire.Plan(func(_ int, message []byte) wire.Fault {
				switch sent := b.wire.Summary(message); {
				case doubt && strings.Contains(sent, "run INSERT INTO idempotency_keys"):
					doubt = false
					return wire.Fault{Kind: wire.CutAfter}
				case doubt || !strings.Contains(sent, "run SELECT FROM idempotency_keys"):
					return wire.Fault{}
				}
				if found++; found == 1 {
					return wire.Fault{Kind: wire.CutAnswer, Part: row}
				}
				if found == 2 {
					b.unwatch(t)
					b.exec(t, `DELETE FROM idempotency_keys WHERE key = 'k'`)
					b.exec(t, `DELETE FROM parcels WHERE key = 'k'`)
					b.watch(t)
				}
				return wire.Fault{}
			})
			if got := b.mustRun(t, "k"); got.Replayed {
				t.Error("an answer that is gone was replayed")
			}
			b.checkDone(t, "k")
			if found < 2 {
				t.Errorf("the key was looked up %d times, want twice", found)
			}
		})
	}
}

// TestAPanicOfTheEngineLetsTheKeyGo: a mistake that no phase and no call has made
// costs one request. The process holds its key no longer.
func TestAPanicOfTheEngineLetsTheKeyGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	broken := true
	b.engine = b.newEngine(t, nil, func(c *phases.Config) {
		c.Unconfirmed = func(*pgx.Conn) bool {
			if broken {
				panic("a mistake")
			}
			return false
		}
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("there was no panic")
			}
		}()
		_, _ = b.run(t, "k")
	}()
	broken = false
	b.expire(t)
	b.mustRun(t, "k")
}
