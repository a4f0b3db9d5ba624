package main

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// askedAgain: when nothing happens any more, every key's ride is shown and
// every key answers, to the request that it belongs to, what is stored, byte
// for byte, or that the payment is under review; to other parameters it says
// that it is used (I9, I10, I13). All else that is checked takes a 5xx for an
// answer that says nothing; here it is none.
func askedAgain(ops []*op, f *facts) check {
	c := newCheck("asked once more, every key answers as stored", "I9", "I10", "I13")
	answers := byKey(ops)
	for id, key := range f.keys {
		c.looked++
		shown, own := false, 0
		var odd []answer
		for _, o := range final(answers[id]) {
			switch {
			case o.Look:
				shown = key.shows(o.answer)
			case key.answers(o.answer):
				own++
			case o.Code != "idempotency_key_reused":
				odd = append(odd, o.answer)
			}
		}
		if !shown || own != 1 || odd != nil {
			c.breaks("%s (stored: %d %q; parked for %q): its ride is shown as it is: %t; its answer came %d times, and besides %+v",
				id, deref(key.Status), key.Body, deref(key.Parked), shown, own, odd)
		}
	}
	return c
}

// final is the last op of each request.
func final(ops []*op) []*op {
	var last []*op
	for i, o := range ops {
		if !slices.ContainsFunc(ops[i+1:], o.same) {
			last = append(last, o)
		}
	}
	return last
}

// same tells that two ops under one key ask for the same.
func (o *op) same(other *op) bool { return o.Look == other.Look && o.Variant == other.Variant }

// answers tells whether an answer to a hail is the key's.
func (k keyRow) answers(a answer) bool {
	if k.Parked != nil {
		return a.Status == http.StatusConflict && a.Code == "payment_under_review"
	}
	return k.Status != nil && *k.Status == a.Status && string(k.Body) == a.Body
}

// shows tells whether an answer to a look is the ride of a key at rest.
func (k keyRow) shows(a answer) bool {
	if a.Status != http.StatusOK {
		return false
	}
	switch {
	case k.Parked != nil:
		return rideStatus(a.Body) == "under_review"
	case deref(k.Status) == http.StatusCreated:
		return a.Body == strings.TrimSuffix(string(k.Body), "\n")
	default:
		return deref(k.Status) == http.StatusPaymentRequired && rideStatus(a.Body) == "declined"
	}
}

// askAgain makes every request that was made under each key that is there once
// more, and looks at its ride.
func (r *run) askAgain(ctx context.Context, f *facts) error {
	r.rank.apis = r.rank.apis[:1] // the other api may have the newer release
	accounts := map[string]*account{}
	for _, a := range r.world.accounts {
		accounts[a.id] = a
	}
	requests := requestsOf(r.ops())
	keys := make(chan rideKey)
	var group sync.WaitGroup
	for i := range 2 * runtime.NumCPU() {
		rider, err := r.newRider(r.Clients + i)
		if err != nil {
			return err
		}
		group.Go(func() {
			for id := range keys {
				rider.check(ctx, trip{account: accounts[id.account], key: id.key}, requests[id])
			}
		})
	}
	for id := range f.keys {
		if ctx.Err() != nil {
			break
		}
		keys <- id
	}
	close(keys)
	group.Wait()
	return ctx.Err()
}

// requestsOf are the requests that were made under each key and that a key may
// belong to.
func requestsOf(ops []*op) map[rideKey][]*op {
	requests := map[rideKey][]*op{}
	for _, o := range ops {
		if !o.Look && o.Variant != invalid && !slices.ContainsFunc(requests[o.id()], o.same) {
			requests[o.id()] = append(requests[o.id()], o)
		}
	}
	return requests
}

// check looks at a ride and asks for it as it was asked for before, each a few
// times if need be: a machine may be so busy that an answer is late.
func (r *rider) check(ctx context.Context, t trip, requests []*op) {
	const tries = 3
	for _, asked := range append([]*op{{Look: true}}, requests...) {
		for range tries {
			o := &op{Account: t.account.id, Key: t.key, Look: asked.Look, Variant: asked.Variant, Sent: asked.Sent}
			r.send(ctx, t, o, 0)
			if !o.unknown() {
				break
			}
		}
	}
}
