package main

import (
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// unsure returns the facts of whole, but with a key that was parked because of
// a saved
// 500. It was first sent at first, claimed for the last time two seconds after the
// patience with a saved 500 ended, and parked one second later.
func unsure() (f *facts, first time.Time) {
	_, f = whole()
	id, reason := rideKey{"acct_1", "k"}, "stripe_500"
	row := f.keys[id]
	row.Parked, row.Status, row.Body, row.FinishedAt = &reason, nil, nil, nil
	f.keys[id] = row
	first = *row.FirstSentAt
	f.sends[0].Fault, f.sends[0].Status = fakestripe.Saved500WithoutEffect, 500
	claimed := first.Add(saved500After + 2*time.Second)
	f.changes = []change{
		{Account: "acct_1", Key: "k", Epoch: 1, Held: true, At: first},
		{Account: "acct_1", Key: "k", Epoch: 1, WasHeld: true, At: first.Add(time.Second)},
		{Account: "acct_1", Key: "k", Epoch: 2, Held: true, At: claimed},
		{Account: "acct_1", Key: "k", Epoch: 2, WasHeld: true, At: claimed.Add(time.Second)},
	}
	f.intents = nil
	return f, first
}

func TestWhatMayPark(t *testing.T) {
	t.Parallel()
	paidAt := func(at time.Time) []intent {
		return []intent{{ID: "pi_1", Status: "succeeded", Created: at.Unix(), Metadata: map[string]string{"ride_id": "ride_1"}}}
	}
	for name, c := range map[string]struct {
		change func(f *facts, first time.Time)
		want   bool
	}{
		"a saved 500 that took nothing":   {func(*facts, time.Time) {}, true},
		"a saved 500 that took the money": {func(f *facts, first time.Time) { took(f); f.intents = paidAt(first) }, false},
		"a saved 500 that took the money in the last attempt": {func(f *facts, _ time.Time) {
			took(f)
			f.intents = paidAt(f.changes[3].At)
		}, false},
		"a saved 500 that declined the card": {func(f *facts, first time.Time) {
			took(f)
			f.intents = paidAt(first)
			f.intents[0].Status = "requires_payment_method"
		}, true},
		"one that took the money later, before the last look": {func(f *facts, first time.Time) { f.intents = paidAt(first.Add(2 * time.Second)) }, false},
		"one that took the money while it was parked":         {func(f *facts, _ time.Time) { f.intents = paidAt(f.changes[2].At.Add(time.Second)) }, true},
		"one that took the money after it was parked":         {func(f *facts, _ time.Time) { f.intents = paidAt(f.changes[3].At.Add(time.Second)) }, true},
		"too soon": {func(f *facts, first time.Time) {
			f.changes = f.changes[:2]
			f.changes[1].At = first.Add(saved500After - time.Millisecond)
		}, false},
		"never sent":                           {func(f *facts, _ time.Time) { changeRow(f.keys, func(k *keyRow) { k.FirstSentAt = nil }) }, false},
		"no saved 500":                         {func(f *facts, _ time.Time) { f.sends[0].Fault = "" }, false},
		"a saved 500 that was not carried out": {func(f *facts, _ time.Time) { f.sends[0].Replayed = true }, false},
		"an answer about something else": {func(f *facts, _ time.Time) {
			f.sends[0].Fault, f.sends[0].Status = fakestripe.OtherObject, 200
			reason := "stripe_mismatch"
			changeRow(f.keys, func(k *keyRow) { k.Parked = &reason })
		}, true},
		"an answer that was right": {func(f *facts, _ time.Time) {
			reason := "stripe_mismatch"
			changeRow(f.keys, func(k *keyRow) { k.Parked = &reason })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, first := unsure()
			c.change(f, first)
			if got := parks(f); got.ok() != c.want || got.looked != 1 {
				t.Errorf("it passes: %t %q", got.ok(), got.broken)
			}
		})
	}
}

func took(f *facts) { f.sends[0].Fault = fakestripe.Saved500WithEffect }
