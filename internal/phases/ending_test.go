package phases_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestALostAnswerChangesNoEnding cuts the connection at each message of
// attempts that end in another way than with a label. The key must be left as
// it is left when nothing is cut, and the caller must get the same error.
func TestALostAnswerChangesNoEnding(t *testing.T) {
	t.Parallel()
	park := phases.Park("early", "")
	for name, h := range map[string]hooks{
		"a release": {before: lost},
		"a refusal": {answer: "refused"},
		"a wait":    {answer: "working"},
		"a park":    {answer: "odd"},
		"a look-up": {before: func(context.Context, int) error {
			return &phases.CallError{Class: phases.LookUp, Reason: "x", Err: errLost, Patience: time.Hour}
		}},
		"an early park": {pack: func(*phases.Tx, phases.Key) (*phases.Outcome, error) { return &park, nil }},
	} {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent} {
			t.Run(name+" "+kind.String(), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				b.mustRun(t, "warm")
				b.carrier.set(h)
				_, want := b.run(t, "whole")
				for k := 1; ; k++ {
					key := fmt.Sprint("k", k)
					b.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
					_, err := b.run(t, key)
					uncut := b.wire.Messages() < k
					b.wire.Plan(wire.Nothing)
					if fmt.Sprint(err) != fmt.Sprint(want) {
						t.Errorf("cut at message %d, the caller got %v; without a cut %v", k, err, want)
					}
					if got, whole := b.ending(t, key), b.ending(t, "whole"); got != whole {
						t.Errorf("cut at message %d, the key was left as %s; without a cut as %s", k, got, whole)
					}
					if uncut || t.Failed() {
						return
					}
				}
			})
		}
	}
}

// ending returns how a key was left, without its names and times.
func (b *bundle) ending(t *testing.T, key string) string {
	t.Helper()
	got := b.show(t, key)
	records := value[int](t, b, `SELECT count(*) FROM audit_records WHERE data->>'key' = $1 AND action <> 'key.barrier'`, key)
	return fmt.Sprintf("%s leased %v, epoch %d, attempts %d, failures %d, parked %q, find %q, ref %v, status %d, sent %v, %d audit records",
		got.RecoveryPoint, got.Leased, got.LeaseEpoch, got.Attempts, got.Failures, got.ParkedReason, got.FindReason, got.ForeignRef != "",
		got.Status, got.FirstSentAt != nil, records)
}

// TestALostDecisionIsCarriedOutOnce: the transaction of a person's decision is
// treated like any other when its answer is lost.
func TestALostDecisionIsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.set(hooks{answer: "odd"})
			_, _ = b.run(t, "warm")
			_, _ = b.run(t, "k")
			b.carrier.set(hooks{})
			resolve := func(key, number string) (phases.Result, error) {
				return b.engine.ResolveResult(t.Context(), b.show(t, key), "ann", "booked "+number, booking{Number: number, Status: "booked"})
			}
			if _, err := resolve("warm", "B6"); err != nil {
				t.Fatal(err)
			}
			b.wire.Plan(wire.On(1, wire.Fault{Kind: kind}))
			if result, err := resolve("k", "B7"); err != nil || string(result.Answer.Body) != "label B7" {
				t.Errorf("got %q, %v", result.Answer.Body, err)
			}
			b.checkDone(t, "k")
			if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.resolved' AND data->>'key' = 'k'`); n != 1 {
				t.Errorf("%d audit records, want 1", n)
			}
		})
	}
}
