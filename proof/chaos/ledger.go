package main

import (
	"net/http"
	"slices"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// chargedOnce checks that no ride is charged twice (I1).
func chargedOnce(f *facts) check {
	c := newCheck("no ride is charged twice", "I1")
	for ride, intents := range f.intentsOf() {
		c.looked++
		if n := count(intents, intent.paid); n > 1 {
			c.breaks("ride %s was charged %d times", ride, n)
		}
	}
	return c
}

// count returns how many elements of a list are something.
func count[T any](list []T, is func(T) bool) int {
	n := 0
	for _, element := range list {
		if is(element) {
			n++
		}
	}
	return n
}

// paid checks that a ride that was answered with 201 is charged at Stripe, to
// the cent and to the right customer, and that nothing else is charged except
// rides of parked keys (I2, I4, I5).
func paid(f *facts) check {
	c := newCheck("charged at Stripe ⇔ charged here (or parked)", "I2", "I4", "I5")
	intents := f.intentsOf()
	for id, key := range f.keys {
		ride := f.rides[id]
		charged := slices.IndexFunc(intents[ride.ID], intent.paid)
		c.looked++
		switch {
		case key.Status == nil || *key.Status != http.StatusCreated:
			if charged >= 0 && key.Parked == nil {
				c.breaks("%s is charged at Stripe (%s), and neither finished nor parked", id, intents[ride.ID][charged].ID)
			}
		case charged < 0:
			c.breaks("%s is answered 201, and Stripe has no charge", id)
		default:
			at := intents[ride.ID][charged]
			if at.Amount != ride.Fare || at.AmountReceived != ride.Fare || ride.Charge == nil || at.LatestCharge != *ride.Charge ||
				ride.Intent == nil || at.ID != *ride.Intent || key.ForeignKey == nil || at.Metadata["operation"] != *key.ForeignKey ||
				at.Metadata["account_id"] != id.account || at.Customer != f.customers[id.account] {
				c.breaks("%s and Stripe disagree: %+v and %+v", id, ride, at)
			}
		}
	}
	known := map[string]bool{}
	for _, ride := range f.rides {
		known[ride.ID] = true
	}
	for ride, all := range intents {
		if !known[ride] && slices.ContainsFunc(all, intent.paid) {
			c.breaks("Stripe charged for ride %q, which isn't there", ride)
		}
	}
	return c
}

// declined checks that a ride that was answered with 402 is not charged (I3).
func declined(f *facts) check {
	c := newCheck("a declined ride is never charged", "I3")
	intents := f.intentsOf()
	for id, key := range f.keys {
		if key.Status == nil || *key.Status != http.StatusPaymentRequired {
			continue
		}
		c.looked++
		if slices.ContainsFunc(intents[f.rides[id].ID], intent.paid) {
			c.breaks("%s is declined, and charged at Stripe", id)
		}
	}
	return c
}

// refusedCards checks that a card that its bank declines never pays for a ride,
// however the ride ends (I3).
func refusedCards(f *facts) check {
	c := newCheck("a declined card is never charged", "I3")
	intents := f.intentsOf()
	for id, key := range f.keys {
		if !f.refused[id.account] {
			continue
		}
		c.looked++
		if key.Status != nil && *key.Status == http.StatusCreated || slices.ContainsFunc(intents[f.rides[id].ID], intent.paid) {
			c.breaks("%s is charged, and its card is declined", id)
		}
	}
	return c
}

// sums checks that Stripe took the fares of the charged rides, and what it took
// for rides of parked keys (I27).
func sums(f *facts) check {
	c := newCheck("the sums are equal, to the cent", "I27")
	var stripe, here, waiting int64
	intents := f.intentsOf()
	for _, i := range f.intents {
		stripe += i.AmountReceived
		c.looked++
	}
	for id, ride := range f.rides {
		if ride.Status == string(rides.StatusCharged) || ride.Status == string(rides.StatusCanceled) {
			here += ride.Fare
		} else if f.keys[id].Parked != nil {
			for _, i := range intents[ride.ID] {
				waiting += i.AmountReceived
			}
		}
	}
	if stripe != here+waiting {
		c.breaks("Stripe took %d cents, charged rides cost %d and parked ones %d", stripe, here, waiting)
	}
	return c
}

// sameBytes checks that all sends of a ride have one key and the same bytes
// (I6).
func sameBytes(f *facts) check {
	c := newCheck("all sends of a ride have one key and the same bytes", "I6")
	for ride, sends := range f.sendsOf() {
		c.looked += len(sends)
		for _, s := range sends {
			if s.Key != sends[0].Key || s.Body != sends[0].Body || s.Params["metadata[operation]"] != s.Key {
				c.breaks("for ride %q were sent %q under %s and %q under %s", ride, sends[0].Body, sends[0].Key, s.Body, s.Key)
				break
			}
		}
	}
	return c
}

// sentEarly checks that nothing reached Stripe before the intent to send it was
// committed (I5).
func sentEarly(f *facts) check {
	c := newCheck(onRecord, "I5")
	sends := f.sendsOf()
	for id, key := range f.keys {
		for _, s := range sends[f.rides[id].ID] {
			c.looked++
			if key.sentEarly(s) || deref(key.ForeignKey) != s.Key {
				c.breaks("%s was sent at %s under %s; on record since %s are %s, and %v as the first send",
					id, s.At, s.Key, key.CreatedAt, deref(key.ForeignKey), key.FirstSentAt)
			}
		}
	}
	return c
}

// sentEarly reports whether a send of the key reached Stripe before the key, or
// the time of its first send, was committed.
func (k keyRow) sentEarly(s fakestripe.Send) bool {
	// After a send that Stripe certainly refused, the window starts again.
	refused := slices.Contains([]int{400, 401, 403, 404, 429}, s.Status)
	return s.At.Before(k.CreatedAt) || k.FirstSentAt != nil && s.At.Before(*k.FirstSentAt) && !refused
}
