package phases_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestTheIntentIsDurableBeforeTheSend asks the database, at each send of a key,
// for what must be durable by then (I5).
func TestTheIntentIsDurableBeforeTheSend(t *testing.T) {
	t.Parallel()
	unsent := &phases.CallError{Class: phases.Transient, Err: errLost}
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := setup(t, options...)
			ends := []error{unsent, errLost, unsent, nil}
			b.carrier.set(hooks{before: func(_ context.Context, n int) error {
				sent := b.carrier.sent()[n-1]
				if !value[bool](t, b, `SELECT foreign_key = $1 AND foreign_form = $2 AND first_sent_at = $3 AND first_sent_at <= clock_timestamp()
					FROM idempotency_keys WHERE key = 'k'`, sent.key, sent.form, sent.sent.FirstSentAt) {
					t.Errorf("send %d: the row doesn't hold its intent", n)
				}
				return ends[n-1]
			}})
			for range ends {
				_, _ = b.run(t, "k")
			}
			b.checkDone(t, "k")
			first := func(n int) time.Time { return b.carrier.sent()[n].sent.FirstSentAt }
			if first(0).Equal(first(1)) || !first(1).Equal(first(2)) || !first(1).Equal(first(3)) {
				t.Error("first_sent_at must be cleared if nothing was sent, and stay otherwise")
			}
		})
	}
}

// TestAFailedLookUpKeepsFirstSentAt: the look-up itself certainly did nothing,
// but the send before it may have.
func TestAFailedLookUpKeepsFirstSentAt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{
		after: func(context.Context, int) error {
			return &phases.CallError{Class: phases.LookUp, Reason: "x", Err: errLost}
		},
		find: func(phases.Sent[bookingForm]) (booking, error) {
			return booking{}, &phases.CallError{Class: phases.Transient, Err: errLost}
		},
	})
	if b.show(t, "k").FirstSentAt == nil {
		t.Error("first_sent_at was cleared after a send that may have had its effect")
	}
}

// recording returns the flow under test with another Record.
func (b *bundle) recording(
	record func(*phases.Tx, phases.Key, bookingForm, booking) (phases.Outcome, error),
) phases.Flow {
	return phases.NewFlow("parcel", 1,
		phases.Atomic(packed, b.carrier.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: b.carrier.prepare, Do: b.carrier.do, Find: b.carrier.find, Record: record,
		}),
		phases.Atomic(phases.Finished, printLabel),
	)
}

// TestAReadingRecordKeepsTheTimeOfTheFirstSend: the transaction of a phase that
// reads begins with a guard that renews the lease, and changes nothing else.
func TestAReadingRecordKeepsTheTimeOfTheFirstSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.flow = b.recording(func(tx *phases.Tx, key phases.Key, form bookingForm, out booking) (phases.Outcome, error) {
		var n int
		if err := tx.QueryRow(`SELECT writes FROM parcels WHERE account_id = $1 AND key = $2`, key.Account, key.Key).Scan(&n); err != nil {
			return phases.Outcome{}, err
		}
		return record(tx, key, form, out)
	})
	b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })
	_ = b.sendOnce(t, "k", hooks{answer: "working"})
	b.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '5 hours'`)
	was := b.show(t, "k").FirstSentAt
	for range 2 {
		_ = b.sendOnce(t, "k", hooks{find: func(sent phases.Sent[bookingForm]) (booking, error) {
			return booking{Number: sent.Ref, Status: "working"}, nil
		}})
	}
	if got := b.show(t, "k"); !got.FirstSentAt.Equal(*was) || got.ForeignRef != "B1" {
		t.Errorf("first sent at %s, was %s; ref %q", got.FirstSentAt, was, got.ForeignRef)
	}
}

// TestAKeyKnowsWhenItWasMade: the time of the insert is known only after its
// commit, and the next phase must get it.
func TestAKeyKnowsWhenItWasMade(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var told time.Time
			b.flow = b.recording(func(tx *phases.Tx, key phases.Key, form bookingForm, out booking) (phases.Outcome, error) {
				told = key.CreatedAt
				return record(tx, key, form, out)
			})
			b.engine = b.newEngine(t, nil, append(options, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })...)
			b.mustRun(t, "k")
			if want := b.show(t, "k").CreatedAt; !told.Equal(want) {
				t.Errorf("the phase was told %s, the row says %s", told, want)
			}
		})
	}
}

// TestFreezingTwiceKeepsFirstSentAt: first_sent_at was cleared, and the next
// claim sets it again. The answer to that COMMIT is lost, and the transaction
// runs a second time. The second run must not set a later time, because
// something may have been sent by then.
func TestFreezingTwiceKeepsFirstSentAt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	unsent := &phases.CallError{Class: phases.Transient, Err: errLost}
	_ = b.sendOnce(t, "k", hooks{before: func(context.Context, int) error { return unsent }})
	if b.show(t, "k").FirstSentAt != nil {
		t.Fatal("first_sent_at was not cleared")
	}
	var frozen *time.Time
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		switch {
		case n == 3: // after the read and the claim
			return wire.Fault{Kind: wire.CutAfter}
		case n > 3 && frozen == nil:
			frozen = b.show(t, "k").FirstSentAt
		}
		return wire.Fault{}
	})
	_ = b.sendOnce(t, "k", hooks{before: lost})
	if got := b.show(t, "k").FirstSentAt; frozen == nil || got == nil || !got.Equal(*frozen) {
		t.Errorf("first sent at %v, and then at %v", frozen, got)
	}
}

// TestTheOtherSidesNameIsKept: an attempt that fails before it knows more must
// not forget what the other side is working on: without the name the call would
// be sent again.
func TestTheOtherSidesNameIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{answer: "working"})
	_, _ = b.run(t, "k")
	var refs []string
	b.carrier.set(hooks{find: func(sent phases.Sent[bookingForm]) (booking, error) {
		refs = append(refs, sent.Ref)
		if len(refs) == 1 {
			return booking{}, errLost
		}
		return booking{Number: "B1", Status: "booked"}, nil
	}})
	for range 2 {
		b.expire(t)
		b.complete(t)
	}
	if diff := cmp.Diff([]string{"B1", "B1"}, refs); diff != "" {
		t.Errorf("looked up (-want +got):\n%s", diff)
	}
	if n := len(b.carrier.sent()); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

// TestASecondCallHasAWindowOfItsOwn: what the first call of a flow had left of
// its window says nothing about the second.
func TestASecondCallHasAWindowOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var firsts []time.Time
			call := func(point string) phases.Phase {
				return phases.Foreign(point, phases.Call[bookingForm, booking]{
					Prepare: func(_ *phases.Tx, _ phases.Key, foreignKey string) (bookingForm, phases.Outcome, error) {
						return bookingForm(foreignKey), phases.Advance(), nil
					},
					Do: func(_ context.Context, sent phases.Sent[bookingForm]) (booking, error) {
						firsts = append(firsts, sent.FirstSentAt)
						if age := value[float64](t, b, `SELECT extract(epoch FROM now() - first_sent_at)::float8 FROM idempotency_keys`); age > 60 {
							t.Errorf("%.0f seconds of the window of call %d are over before it is made", age, len(firsts))
						}
						// Nineteen hours of the window are over.
						b.exec(t, `UPDATE idempotency_keys SET first_sent_at = $1`, sent.FirstSentAt.Add(-19*time.Hour))
						return booking{}, nil
					},
					Find: func(context.Context, phases.Sent[bookingForm]) (booking, error) {
						return booking{}, phases.ErrNothingFound
					},
					Record: func(*phases.Tx, phases.Key, bookingForm, booking) (phases.Outcome, error) {
						return phases.Advance(), nil
					},
				})
			}
			flow := phases.NewFlow("parcel", 2, call(packed), call(booked),
				phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
					return phases.Finish(201, nil, []byte("done")), nil
				}))
			engine := b.newEngine(t, nil, append(options, func(c *phases.Config) { c.Flows = []phases.Flow{flow} })...)
			if _, err := engine.Run(t.Context(), flow, request("k")); err != nil {
				t.Fatal(err)
			}
			if len(firsts) != 2 || firsts[1].Before(firsts[0]) {
				t.Errorf("the calls were first sent at %v", firsts)
			}
		})
	}
}
