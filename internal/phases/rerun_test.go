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
