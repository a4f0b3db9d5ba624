package main

import (
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// parks: a key waits for a person only where Stripe itself was unclear (I17).
func parks(f *facts) check {
	c := newCheck("keys are parked for legal reasons only", "I17")
	c.seldom = true
	sends, intents, changes := f.sendsOf(), f.intentsOf(), f.changesOf()
	for id, key := range f.keys {
		if key.Parked == nil {
			continue
		}
		c.looked++
		ride := f.rides[id].ID
		switch *key.Parked {
		case "stripe_500":
			if wrong := wronglyUnsure(key, sends[ride], intents[ride], changes[id]); wrong != "" {
				c.breaks("%s is parked for a saved 500, %s", id, wrong)
			}
		case "stripe_mismatch":
			if !slices.ContainsFunc(sends[ride], executed(fakestripe.OtherObject)) {
				c.breaks("%s is parked for an answer about something else, and there was none", id)
			}
		default:
			c.breaks("%s is parked for %s, which no fault explains", id, *key.Parked)
		}
	}
	return c
}

// executed returns the condition that a send was carried out under a fault. Of
// those with one key it is one: whatever comes later gets its saved answer.
func executed(fault fakestripe.Kind) func(s fakestripe.Send) bool {
	return func(s fakestripe.Send) bool { return s.Fault == fault && s.Status != 0 && !s.Replayed }
}

// wronglyUnsure tells what is wrong with a key that was parked because Stripe's
// saved answer is a 500; "" where the park is right. It is right when the
// service waited as long as it was told to, and then looked and could not find
// money.
//
// Money on such a key is judged by time. What a 500 with an effect took was
// there before its answer, so that every look must find it. What a 500 took
// later, on its own, may come when the key is already parked, or while it is
// being parked: then it waits with the key for a person, and that is what
// parking is for. But every claim looks anew: what was there before the last
// one should have been found. (A card that is declined leaves an intent without
// money. That proves nothing, since Stripe may yet confirm it: also a 500 with
// such an effect may park.)
func wronglyUnsure(key keyRow, sends []fakestripe.Send, intents []intent, changes []change) string {
	took, nothing := executed(fakestripe.Saved500WithEffect), executed(fakestripe.Saved500WithoutEffect)
	claimed, parked := lastClaim(changes)
	paid := slices.IndexFunc(intents, intent.paid)
	switch {
	case !slices.ContainsFunc(sends, took) && !slices.ContainsFunc(sends, nothing):
		return "and there was none"
	case key.FirstSentAt == nil || parked.Before(key.FirstSentAt.Add(saved500After)):
		return "sooner than " + saved500After.String() + " after its first send"
	case paid >= 0 && slices.ContainsFunc(sends, took):
		return "and " + intents[paid].ID + " was paid with that answer"
	case paid >= 0 && time.Unix(intents[paid].Created+1, 0).Before(claimed): // Created is rounded down
		return "and " + intents[paid].ID + " was paid before the last look"
	default:
		return ""
	}
}

// lastClaim tells when the last claim of a key began, and when it ended.
// Changes are there for every key.
func lastClaim(changes []change) (from, to time.Time) {
	for i, c := range changes {
		if i == 0 || c.Epoch > changes[i-1].Epoch {
			from = c.At
		}
		to = c.At
	}
	return from, to
}
