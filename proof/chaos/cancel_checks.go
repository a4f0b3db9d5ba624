package main

import (
	"net/http"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// cancelChecks compares the cancels with the database, and that with Stripe.
// last is the last round of requests, after everything has come to rest.
func cancelChecks(all, last []*op, f *facts) []check {
	return []check{refundedOnce(f), refundsAgree(f), cancelsAsStored(cancelsOf(all), cancelsOf(last), f), refundBytes(f), cancelsEnd(f)}
}

// refundsOf groups Stripe's refunds by the payment intent.
func (f *facts) refundsOf() map[string][]refund {
	intents := map[string][]refund{}
	for _, r := range f.refunds {
		intents[r.Intent] = append(intents[r.Intent], r)
	}
	return intents
}

// given adds up the refunds that count.
func given(refunds []refund) int64 {
	var sum int64
	for _, r := range refunds {
		if r.counts() {
			sum += r.Amount
		}
	}
	return sum
}

// refundedOnce checks that no ride is given back more than once (I1).
func refundedOnce(f *facts) check {
	c := newCheck("no ride is refunded twice, or beyond its fare", "I1")
	refunds := f.refundsOf()
	for id, ride := range f.rides {
		all := refunds[deref(ride.Intent)]
		if len(all) == 0 || ride.Intent == nil {
			continue
		}
		c.looked++
		if n := count(all, refund.counts); n > 1 || given(all) > ride.Fare {
			c.breaks("%s cost %d, and %d refunds gave %d back", id, ride.Fare, n, given(all))
		}
	}
	succeeded := map[string]string{} // the key that canceled a ride
	for id, key := range f.cancels {
		if deref(key.Status) != http.StatusOK {
			continue
		}
		if other := succeeded[deref(key.Cancels)]; other != "" {
			c.breaks("%s and %s both canceled %s", id, other, deref(key.Cancels))
		}
		succeeded[deref(key.Cancels)] = id.String()
	}
	return c
}

// refundsAgree checks that a ride is canceled exactly if all of its fare is
// back, by the key that says so and with one receipt, and that nothing else is
// given back except for rides of parked keys (I2, I4, I12, I27).
func refundsAgree(f *facts) check {
	c := newCheck("refunded at Stripe ⇔ canceled here (or parked)", "I2", "I4", "I12", "I27")
	refunds := f.refundsOf()
	parked := map[string]bool{}
	for id, key := range f.cancels {
		parked[deref(key.Cancels)] = parked[deref(key.Cancels)] || key.Parked != nil
		receipts := 0
		if deref(key.Status) == http.StatusOK {
			receipts = 1
		}
		if f.jobs[id] != receipts {
			c.breaks("%s has %d receipts of %d", id, f.jobs[id], receipts)
		}
	}
	for id, ride := range f.rides {
		back := given(refunds[deref(ride.Intent)])
		canceled := ride.Status == string(rides.StatusCanceled)
		if back == 0 && !canceled || ride.Intent == nil {
			continue
		}
		c.looked++
		by := f.cancels[rideKey{id.account, deref(ride.CancelKey)}]
		switch {
		case canceled && (back != ride.Fare || deref(by.Status) != http.StatusOK || deref(by.Cancels) != ride.ID):
			c.breaks("%s is canceled by %q (%d), and %d of %d are back", id, deref(ride.CancelKey), deref(by.Status), back, ride.Fare)
		case !canceled && !parked[ride.ID]:
			c.breaks("%s is %s, and %d of %d are back", id, ride.Status, back, ride.Fare)
		}
	}
	return c
}

// cancelsAsStored checks that every final answer to a cancel is the stored one,
// byte for byte, and that each key gives its answer in the last round (I9, I13).
func cancelsAsStored(all, last []*op, f *facts) check {
	c := newCheck("every cancel answers as stored", "I9", "I13")
	for _, o := range all {
		if o.Status == http.StatusNotFound || o.Code == "idempotency_key_reused" || o.Code == "invalid_parameters" {
			c.breaks("%s was answered %d %s", o.id(), o.Status, o.Code)
		}
		if o.Status != http.StatusOK && (o.Code != notCancelable || o.Retryable) {
			continue
		}
		c.looked++
		if key := f.cancels[o.id()]; !key.answers(o.answer) {
			c.breaks("%s was answered %d %q, stored is %d %q", o.id(), o.Status, o.Body, deref(key.Status), key.Body)
		}
	}
	answers := byKey(last)
	for id, key := range f.cancels {
		ops := answers[id]
		if len(ops) == 0 || !key.answers(ops[len(ops)-1].answer) {
			c.breaks("%s doesn't answer as stored (%d %q) in the last round: %+v", id, deref(key.Status), key.Body, ops)
		}
	}
	return c
}

// refundBytes checks that all sends of a refund have one key and the same bytes,
// and that none was made before it was on record (I5, I6).
func refundBytes(f *facts) check {
	c := newCheck("all sends of a refund are what was on record before", "I5", "I6")
	byForeignKey := map[string]keyRow{}
	for _, key := range f.cancels {
		byForeignKey[deref(key.ForeignKey)] = key
	}
	bodies := map[string]string{}
	for _, s := range f.sends {
		if s.Path != "/v1/refunds" || s.Incomplete {
			continue
		}
		c.looked++
		key, known := byForeignKey[s.Key]
		first, again := bodies[s.Key]
		if !known || key.sentEarly(s) || again && first != s.Body || s.Params["metadata[operation]"] != s.Key {
			c.breaks("%q was sent under %s at %s; the key is on record: %t, since %s, and %v as the first send",
				s.Body, s.Key, s.At, known, key.CreatedAt, key.FirstSentAt)
		}
		bodies[s.Key] = s.Body
	}
	return c
}

// cancelsEnd checks that every cancel is finished, or parked for a reason that
// an answer of Stripe's explains (I16, I17).
func cancelsEnd(f *facts) check {
	c := newCheck("every cancel ends, or is parked for a legal reason", "I16", "I17")
	for id, key := range f.cancels {
		c.looked++
		saved := func(s fakestripe.Send) bool {
			return s.Key == deref(key.ForeignKey) && (executed(fakestripe.Saved500WithEffect)(s) || executed(fakestripe.Saved500WithoutEffect)(s))
		}
		switch {
		case !key.atRest():
			c.breaks("%s is still at %s, and was created at %s", id, key.Point, key.CreatedAt.Format(time.TimeOnly))
		case key.Parked != nil && (*key.Parked != "stripe_500" || !slices.ContainsFunc(f.sends, saved)):
			c.breaks("%s is parked for %s, which no fault explains", id, *key.Parked)
		}
	}
	return c
}
