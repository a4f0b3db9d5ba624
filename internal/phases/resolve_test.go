package phases_test

import (
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestAResolvedKeyGoesOnAtItsNextCall: the decision about one call is durable,
// and the completer makes the next one at once.
func TestAResolvedKeyGoesOnAtItsNextCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.unwatch(t) // the point is no other flow's
	advance := func(*phases.Tx, phases.Key, bookingForm, booking) (phases.Outcome, error) {
		return phases.Advance(), nil
	}
	b.flow = phases.NewFlow("parcel", 1,
		phases.Atomic(packed, b.carrier.pack),
		phases.Foreign(booked, phases.Call[bookingForm, booking]{
			Prepare: b.carrier.prepare, Do: b.carrier.do, Find: b.carrier.find, Record: record,
		}),
		phases.Foreign("insured", phases.Call[bookingForm, booking]{
			Prepare: b.carrier.prepare, Do: b.carrier.do, Find: b.carrier.find, Record: advance,
		}),
		phases.Atomic(phases.Finished, printLabel),
	)
	b.engine = b.newEngine(t, nil, func(c *phases.Config) { c.Flows = []phases.Flow{b.flow} })
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "k")
	b.carrier.set(hooks{})
	result, err := b.engine.ResolveResult(t.Context(), b.show(t, "k"), "ann", "booked", booking{Number: "B1", Status: "booked"})
	if got := b.show(t, "k"); err != nil || !result.Pending || got.RecoveryPoint != booked || got.Leased || got.FirstSentAt != nil {
		t.Fatalf("got %+v, %v, and the key %+v", result, err, got)
	}
	if counts, err := b.completer(b.engine).Once(t.Context()); err != nil || counts.Finished != 1 {
		t.Errorf("the completer did %+v, %v, want the key to be due", counts, err)
	}
	if sends := b.carrier.sent(); len(sends) != 2 || sends[0].key == sends[1].key {
		t.Errorf("sent %+v, want each call once", sends)
	}
}
