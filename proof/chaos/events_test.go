package main

import (
	"slices"
	"testing"
)

// wholeTold returns the facts of a ride of which Stripe has told twice.
func wholeTold() *facts {
	_, f := whole()
	done := "nothing_new"
	f.told = []told{{ID: "evt_1", ThinID: "evt_2", Type: "payment_intent.succeeded", ObjectID: "pi_1"}}
	f.inbox = map[string]inbox{
		"evt_1": {ID: "evt_1", Type: "payment_intent.succeeded", ObjectID: "pi_1", Deliveries: 1, Outcome: &done},
		"evt_2": {ID: "evt_2", Type: "payment_intent.succeeded", ObjectID: "pi_1", Deliveries: 3, Outcome: &done},
	}
	return f
}

func TestEachCheckOfEventsFindsItsViolation(t *testing.T) {
	t.Parallel()
	if found := broken(eventChecks(wholeTold())); found != nil {
		t.Errorf("what is right breaks %q", found)
	}
	orphan, unsure := "orphan", "stripe_500"
	const taken, worked, settled = "no event that was acknowledged is lost", "every event is worked, and finds what is right", "what Stripe told of is not left parked"
	for name, c := range map[string]struct {
		want  string
		spoil func(f *facts)
	}{
		"lost":         {taken, func(f *facts) { f.inbox = nil }},
		"never taken":  {taken, func(f *facts) { f.pending = 1 }},
		"never worked": {worked, func(f *facts) { f.inbox["evt_2"] = inbox{} }},
		"an orphan":    {worked, func(f *facts) { f.inbox["evt_2"] = inbox{Outcome: &orphan} }},
		"left parked":  {settled, func(f *facts) { changeRow(f.keys, func(k *keyRow) { k.Parked = &unsure }) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := wholeTold()
			c.spoil(f)
			if found := broken(eventChecks(f)); !slices.Equal(found, []string{c.want}) {
				t.Errorf("it breaks %q", found)
			}
		})
	}
}
