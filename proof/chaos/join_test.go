package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/proof/invariants"
)

// whole returns a correct history of one ride, and its facts.
func whole() ([]*op, *facts) {
	const sent = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`
	const body = `{"id":"ride_1","fare":{"amount":2350,"currency":"usd"},"status":"charged"}`
	id := rideKey{"acct_1", "k"}
	status, operation, charge, pi := 201, "operation", "ch_1", "pi_1"
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first := start.Add(time.Millisecond)
	point := "ride_created"
	f := &facts{
		refused:   map[string]bool{"acct_2": true},
		customers: map[string]string{"acct_1": "cus_1"},
		keys: map[rideKey]keyRow{id: {
			Account: "acct_1", Key: "k", FlowVersion: 1, Point: "finished", ForeignKey: &operation,
			CreatedAt: start, FirstSentAt: &first, FinishedAt: &start, Status: &status, Body: []byte(body),
		}},
		rides: map[rideKey]rideRow{id: {
			Account: "acct_1", Key: "k", ID: "ride_1", Status: "charged", Fare: 2350, Charge: &charge, Intent: &pi,
		}},
		audits: map[string]int{"ride_1": 1},
		jobs:   map[rideKey]int{id: 1},
		changes: []change{
			{Account: "acct_1", Key: "k", Epoch: 1, Held: true, To: point, Who: "api-1", At: start},
			{Account: "acct_1", Key: "k", Epoch: 1, WasHeld: true, From: &point, To: "finished", Who: "api-1", At: first.Add(time.Second)},
		},
		sends: []fakestripe.Send{{
			Path: "/v1/payment_intents", Key: operation, Body: "a=1", Status: 200, At: first.Add(time.Millisecond),
			Params: map[string]string{"metadata[operation]": operation, "metadata[ride_id]": "ride_1"},
		}},
		intents: []intent{{
			ID: pi, Status: "succeeded", Amount: 2350, AmountReceived: 2350, LatestCharge: charge, Customer: "cus_1",
			Metadata: map[string]string{"ride_id": "ride_1", "account_id": "acct_1", "operation": operation},
		}},
	}
	hail := &op{Account: "acct_1", Key: "k", Sent: sent, At: start, Call: 0, Return: int64(time.Second), answer: answer{Status: 201, Body: body}}
	return []*op{hail}, f
}

func broken(checks []check) []string {
	var names []string
	for _, c := range checks {
		if !c.ok() {
			names = append(names, c.name)
		}
	}
	return names
}

// changeRow changes the one row of a map.
func changeRow[T any](rows map[rideKey]T, change func(*T)) {
	for id, row := range rows {
		change(&row)
		rows[id] = row
	}
}

func TestACorrectRideBreaksNothing(t *testing.T) {
	t.Parallel()
	ops, f := whole()
	checks := append(join(ops, f), logChecks(f, nil)...)
	if found := broken(checks); found != nil {
		t.Errorf("it breaks %q", found)
	}
}

// hailViolations break one promise about hails each.
func hailViolations() map[string]violation {
	id := rideKey{"acct_1", "k"}
	one := map[string]func(ops []*op, f *facts){
		nothingLost:  func(_ []*op, f *facts) { delete(f.keys, id) },
		nothingWrong: func(ops []*op, _ *facts) { ops[0].Body += " " },
		"\"in use\" is said beside a live lease or another request": func(ops []*op, f *facts) {
			f.changes = f.changes[1:]
			ops[0].answer = answer{Status: 409, Code: "idempotency_key_in_use"}
		},
		"no internal error":        func(ops []*op, _ *facts) { ops[0].answer = answer{Status: 500} },
		"no ride is charged twice": func(_ []*op, f *facts) { f.intents = append(f.intents, f.intents[0]) },
		"a declined ride is never charged": func(_ []*op, f *facts) {
			declined := 402
			changeRow(f.keys, func(k *keyRow) { k.Status = &declined })
		},
		"a declined card is never charged":             func(_ []*op, f *facts) { f.refused["acct_1"] = true },
		"charged at Stripe ⇔ charged here (or parked)": func(_ []*op, f *facts) { f.intents[0].Metadata["operation"] = "another" },
		"the sums are equal, to the cent":              func(_ []*op, f *facts) { f.intents[0].AmountReceived-- },
		"one ride, one audit record, one receipt each": func(_ []*op, f *facts) { delete(f.jobs, id) },
		"all sends of a ride have one key and the same bytes": func(_ []*op, f *facts) {
			f.sends = append(f.sends, f.sends[0])
			f.sends[1].Key = "another"
			f.sends[1].Params = map[string]string{"metadata[operation]": "another", "metadata[ride_id]": "ride_1"}
		},
		onRecord:                    func(_ []*op, f *facts) { f.sends[0].At = f.sends[0].At.Add(-time.Minute) },
		"no key is left unfinished": func(_ []*op, f *facts) { changeRow(f.keys, func(k *keyRow) { k.FinishedAt = nil }) },
		"keys are parked for legal reasons only": func(_ []*op, f *facts) {
			reason := "max_attempts"
			changeRow(f.keys, func(k *keyRow) { k.Parked = &reason })
		},
		"the changes of each key are a path of its flow": func(_ []*op, f *facts) { f.changes[1].Epoch = 0 },
		"only the holder of a key changes it":            func(_ []*op, f *facts) { f.changes[1].Who = "api-2" },
		"no release changes keys of a flow that it does not know": func(_ []*op, f *facts) {
			changeRow(f.keys, func(k *keyRow) { k.FlowVersion = 2 })
		},
	}
	violations := map[string]violation{
		"an answer in no order": {"the history of every key is linearizable", func(h *history) {
			later := *h.all[0]
			later.Call, later.Return, later.Body = later.Return+1, later.Return+2, "{}"
			h.all = append(h.all, &later)
		}},
		"an answer that isn't given again": {"asked once more, every key answers as stored", func(h *history) { h.last = h.last[:1] }},
	}
	for want, spoil := range one {
		violations[want] = violation{want, func(h *history) { spoil(h.all, h.facts) }}
	}
	return violations
}

// TestEachCheckFindsItsViolation breaks one promise at a time.
func TestEachCheckFindsItsViolation(t *testing.T) {
	t.Parallel()
	seek(t, func() *history {
		ops, f := whole()
		return &history{all: ops, last: asking(ops), facts: f}
	}, hailViolations())
}

// TestEveryCheckHasAViolation: a check that nothing is seen to break may be one
// that nothing can break.
func TestEveryCheckHasAViolation(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, table := range []map[string]violation{hailViolations(), cancelViolations(), eventViolations()} {
		for _, v := range table {
			found[v.want] = true
		}
	}
	ops, f := whole()
	for _, c := range checksOf(ops, asking(ops), f, nil) {
		if !found[c.name] {
			t.Errorf("no violation is made that %q must find", c.name)
		}
	}
}

// TestChecksOfTheProcesses: an alarm in Postgres's log, a panic, and what took
// too long.
func TestChecksOfTheProcesses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"2026-01-01 [7] api-1 RR001 ERROR:  a finished key has changed\n": false,
		"2026-01-01 [7] api-1 23505 ERROR:  duplicate key\n":              true,
	} {
		log := filepath.Join(t.TempDir(), "postgres.log")
		if err := os.WriteFile(log, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := alarms(log); err != nil || c.ok() != want || c.looked != 1 {
			t.Errorf("%q passes: %t, %v", line, c.ok(), err)
		}
	}
	for crashes, want := range map[int]bool{0: true, 1: false} {
		w := &system{workers: map[string]*worker{"api-1": {lives: []life{{}, {}}, crashes: crashes}}}
		if _, c := w.lives(); c.ok() != want || c.looked != 2 {
			t.Errorf("%d panics pass: %t", crashes, c.ok())
		}
	}
	for took, want := range map[time.Duration]bool{time.Second: true, time.Second + 1: false} {
		if got := inBound("it rests", took, time.Second).ok(); got != want {
			t.Errorf("%s of one second pass: %t", took, got)
		}
	}
	for took, want := range map[time.Duration]bool{time.Second: true, time.Second + time.Millisecond: false} {
		if got := inGoal("it is quick", []time.Duration{took}, time.Second).ok(); got != want {
			t.Errorf("%s of one second pass: %t", took, got)
		}
	}
}

// TestAStrayRequestExplainsInUse: a request without an answer explains "in
// use", as long as it may still be on its way.
func TestAStrayRequestExplainsInUse(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]bool{0: true, stray - time.Second: true, stray + time.Second: false} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			ops, f := whole()
			refused := *ops[0]
			ops[0].answer, ops[0].Return = answer{}, int64(time.Millisecond)
			refused.answer = answer{Status: 409, Code: "idempotency_key_in_use"}
			refused.Call += int64(after)
			refused.Return = refused.Call + int64(time.Second)
			f.changes = nil
			if c := inUse(append(ops, &refused), f); c.ok() != want {
				t.Errorf("it passes: %t", c.ok())
			}
		})
	}
}

// TestChecksOfAllRequestsLookAtCancels: some checks are about hails and cancels.
func TestChecksOfAllRequestsLookAtCancels(t *testing.T) {
	t.Parallel()
	_, f := whole()
	for want, c := range map[string]answer{
		nothingLost:         {Status: 202, Body: "{}"},
		"no internal error": {Status: 500, Code: "internal"},
		"\"in use\" is said beside a live lease or another request": {Status: 409, Code: "idempotency_key_in_use"},
	} {
		cancel := &op{Account: "acct_1", Key: "c", Cancel: "ride_1", answer: c}
		if found := broken(join([]*op{cancel}, f)); !slices.Equal(found, []string{want}) {
			t.Errorf("%+v breaks %q, want %q", c, found, want)
		}
	}
}

func TestEveryCitedInvariantIsListed(t *testing.T) {
	t.Parallel()
	list, err := invariants.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	ops, f := whole()
	all := append(checksOf(ops, ops, f, nil), inBound("at rest", 0, 0))
	for _, c := range all {
		for _, number := range c.invariants {
			if list[number] == "" {
				t.Errorf("%q cites %s, which is not in the list of internal/phases", c.name, number)
			}
		}
	}
}
