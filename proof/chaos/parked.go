package main

import (
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// parks checks that a key is parked only if an answer of Stripe's explains it
// (I17).
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
				c.breaks("%s is parked for an answer about another object, and there was none", id)
			}
		default:
			c.breaks("%s is parked for %s, which no fault explains", id, *key.Parked)
		}
	}
	return c
}

// executed returns the condition that a send was executed under a fault. Only
// one send of a key can be: all later ones get its saved answer.
func executed(fault fakestripe.Kind) func(s fakestripe.Send) bool {
	return func(s fakestripe.Send) bool { return s.Fault == fault && s.Status != 0 && !s.Replayed }
}

// wronglyUnsure returns what is wrong with a key that was parked because
// Stripe's saved answer is a 500, or "". Parking it is right if the service
// waited as long as it is configured to, and then looked and could not find a
// charge.
//
// A charge on such a key is judged by its time. A 500 with an effect charges
// before its answer, so every look must find the charge. A 500 with a late
// effect may charge after the key was parked, or while it is being parked. Then
// the key waits for a person, which is what parking is for. But every claim
// looks again, so a charge that was made before the last claim should have been
// found. (A declined card leaves an intent that is not charged. That proves
// nothing, since Stripe may still confirm it, so a 500 with this effect may
// also park.)
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

// lastClaim returns when the last claim of a key began and ended. Every key has
// changes.
func lastClaim(changes []change) (from, to time.Time) {
	for i, c := range changes {
		if i == 0 || c.Epoch > changes[i-1].Epoch {
			from = c.At
		}
		to = c.At
	}
	return from, to
}
