package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/rides"
)

// A commit that was acknowledged and lost breaks one of these three: what a
// client was told is gone, or was made again at another time; or, if no client
// had an answer yet, what was sent is no longer on record, or is on record with
// a later time.
const (
	nothingLost  = "no acknowledgement is lost"
	nothingWrong = "no answer is wrong"
	onRecord     = "nothing is sent before it is on record"
)

// join compares the answers that clients got with the database, and the
// database with Stripe. What is only of cancels is in cancelChecks.
func join(all []*op, f *facts) []check {
	hails := hailsOf(all)
	return []check{
		acknowledged(all, f), correct(hails, f), inUse(all, f), internalErrors(all),
		chargedOnce(f), paid(f), declined(f), refusedCards(f), sums(f), oneEach(f), sameBytes(f), sentEarly(f), finished(f), parks(f),
	}
}

// acknowledged checks that what clients were told is in the database (I13).
func acknowledged(ops []*op, f *facts) check {
	c := newCheck(nothingLost, "I13")
	for _, o := range ops {
		if !o.shows() {
			continue
		}
		c.looked++
		key, known := f.key(o.id())
		switch {
		case !known:
			c.breaks("%s was answered %d %s and isn't there", o.id(), o.Status, o.Code)
		case (o.Status == http.StatusCreated || o.Status == http.StatusPaymentRequired) && key.FinishedAt == nil:
			c.breaks("%s was answered %d and isn't finished", o.id(), o.Status)
		case o.Code == "payment_under_review" && key.Parked == nil && !f.unparked[o.id()]:
			c.breaks("%s was said to be under review and isn't", o.id())
		}
	}
	return c
}

// correct checks that an answer is the stored one, byte for byte, with the fare
// of what was asked for (I2, I9).
func correct(ops []*op, f *facts) check {
	c := newCheck(nothingWrong, "I2", "I9")
	for _, o := range ops {
		if o.Look || o.Status != http.StatusCreated && o.Status != http.StatusPaymentRequired {
			continue
		}
		c.looked++
		key := f.keys[o.id()]
		if key.Status != nil && (*key.Status != o.Status || string(key.Body) != o.Body) {
			c.breaks("%s was answered %d %q, stored is %d %q", o.id(), o.Status, o.Body, *key.Status, key.Body)
		}
		if want, got, ok := fares(o); o.Status == http.StatusCreated && (!ok || want != got) {
			c.breaks("%s costs %d, and was answered with %d: %s", o.id(), want, got, o.Body)
		}
	}
	return c
}

// fares returns the fare of the request of an op, and the fare in its answer.
func fares(o *op) (want, got int64, ok bool) {
	var sent rides.Params
	var shown rides.Ride
	err := json.Unmarshal([]byte(o.Sent), &sent)
	if err == nil {
		err = json.Unmarshal([]byte(o.Body), &shown)
	}
	return rides.Fare(sent.Origin, sent.Target), shown.Fare.Amount, err == nil
}

// inUse checks that "in use" is answered only while a process holds the key, or
// another request is about to make it (I14).
func inUse(ops []*op, f *facts) check {
	c := newCheck("\"in use\" is said beside a live lease or another request", "I14")
	changes := f.changesOf()
	for id, all := range byKey(ops) {
		for i, o := range all {
			if o.Code != "idempotency_key_in_use" {
				continue
			}
			c.looked++
			held := slices.ContainsFunc(changes[id], func(c change) bool {
				// A lease is renewed by a change, and ends by one or by itself.
				return c.Held && c.At.Before(o.wall()) && c.At.Add(lease).After(o.At)
			})
			if !held && !overlapsAnother(all, i) {
				c.breaks("%s was said to be in use at %s, and no process held it", id, o.At)
			}
		}
	}
	return c
}

// internalErrors checks that no answer is a 500, which the contract calls a
// bug.
func internalErrors(ops []*op) check {
	c := newCheck("no internal error")
	for _, o := range ops {
		c.looked++
		if o.Status == http.StatusInternalServerError || o.Code == "internal" {
			c.breaks("%s: %d %s", o.id(), o.Status, o.Body)
		}
	}
	return c
}

// oneEach checks that each key has one ride and one audit record, each 201 has
// one receipt, as has each 402 whose client didn't wait for it, and nothing
// exists without a key (I2, I12).
func oneEach(f *facts) check {
	c := newCheck("one ride, one audit record, one receipt each", "I2", "I12")
	for id, key := range f.keys {
		c.looked++
		ride, known := f.rides[id]
		receipts := 0
		if key.Status != nil && (*key.Status == http.StatusCreated || *key.Status == http.StatusPaymentRequired && key.Async) {
			receipts = 1
		}
		if !known || f.audits[ride.ID] != 1 || f.jobs[id] != receipts {
			c.breaks("%s (%s) has a ride: %t, audit records: %d, receipts: %d of %d", id, key.Point, known, f.audits[ride.ID], f.jobs[id], receipts)
		}
	}
	if len(f.rides) != len(f.keys) || len(f.audits) != len(f.rides) {
		c.breaks("%d keys, %d rides, %d rides in audit records", len(f.keys), len(f.rides), len(f.audits))
	}
	return c
}

// finished checks that no key is left unfinished (I16).
func finished(f *facts) check {
	c := newCheck("no key is left unfinished", "I16")
	for id, key := range f.keys {
		c.looked++
		if !key.atRest() {
			c.breaks("%s is still at %s, and was created at %s", id, key.Point, key.CreatedAt.Format(time.TimeOnly))
		}
	}
	return c
}
