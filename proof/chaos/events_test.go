package main

import "testing"

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

// eventViolations break one promise about events each.
func eventViolations() map[string]violation {
	orphan, unsure := "orphan", "stripe_500"
	const taken, worked, settled = "no event that was acknowledged is lost", "every event is worked, and finds what is right", "what Stripe told of is not left parked"
	return map[string]violation{
		"lost":         {taken, func(h *history) { h.facts.inbox = nil }},
		"never taken":  {taken, func(h *history) { h.facts.pending = 1 }},
		"never worked": {worked, func(h *history) { h.facts.inbox["evt_2"] = inbox{} }},
		"an orphan":    {worked, func(h *history) { h.facts.inbox["evt_2"] = inbox{Outcome: &orphan} }},
		"left parked":  {settled, func(h *history) { changeRow(h.facts.keys, func(k *keyRow) { k.Parked = &unsure }) }},
	}
}

func TestEachCheckOfEventsFindsItsViolation(t *testing.T) {
	t.Parallel()
	seek(t, func() *history { return &history{facts: wholeTold()} }, eventViolations())
}
