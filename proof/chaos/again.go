package main

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// askedAgain checks the last round of requests, after everything has come to
// rest. A look must show the ride of each key. The request that the key belongs
// to must get what is stored, byte for byte, or that the payment is under
// review. Requests with other parameters must get that the key is used (I9,
// I10, I13). For all other checks a 5xx is an answer that proves nothing. Here
// it is a violation.
func askedAgain(ops []*op, f *facts) check {
	c := newCheck("asked once more, every key answers as stored", "I9", "I10", "I13")
	answers := byKey(ops)
	for id, key := range f.keys {
		c.looked++
		shown, own := false, 0
		var odd []answer
		for _, o := range lastOfEach(answers[id]) {
			switch {
			case o.Look:
				shown = key.shows(o.answer, f.rides[id])
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

// lastOfEach returns the last op of each request.
func lastOfEach(ops []*op) []*op {
	var last []*op
	for i, o := range ops {
		if !slices.ContainsFunc(ops[i+1:], o.same) {
			last = append(last, o)
		}
	}
	return last
}

// same reports whether two ops under one key are the same request.
func (o *op) same(other *op) bool { return o.Look == other.Look && o.Variant == other.Variant }

// answers reports whether an answer to a hail is what the key has stored.
func (k keyRow) answers(a answer) bool {
	if k.Parked != nil {
		return a.Status == http.StatusConflict && a.Code == "payment_under_review"
	}
	return k.Status != nil && *k.Status == a.Status && string(k.Body) == a.Body
}

// shows reports whether an answer to a look is the ride of the key, which is at
// rest.
func (k keyRow) shows(a answer, ride rideRow) bool {
	if a.Status != http.StatusOK {
		return false
	}
	switch {
	case ride.Refund != nil:
		return rideStatus(a.Body) == ride.Status && hasRefund(a.Body)
	case k.Parked != nil:
		return rideStatus(a.Body) == "under_review"
	case deref(k.Status) == http.StatusCreated:
		return a.Body == strings.TrimSuffix(string(k.Body), "\n")
	default:
		return deref(k.Status) == http.StatusPaymentRequired && rideStatus(a.Body) == "declined"
	}
}

// askAgain repeats every request that was made under each key, and looks at the
// ride of each key. Then it repeats the cancels.
func (r *run) askAgain(ctx context.Context, f *facts) error {
	r.clients.apis = r.clients.apis[:1] // the other api may have the newer release
	accounts := map[string]*account{}
	for _, a := range r.system.accounts {
		accounts[a.id] = a
	}
	requests := requestsOf(r.ops())
	var hails, cancels []func(*client)
	for id := range f.keys {
		hails = append(hails, func(c *client) {
			c.check(ctx, trip{account: accounts[id.account], key: id.key}, requests[id])
		})
	}
	for _, key := range f.cancels {
		cancels = append(cancels, func(c *client) {
			t := trip{account: accounts[key.Account], key: key.Key}
			untilKnown(func() answer { return c.cancel(ctx, t, deref(key.Cancels), key.Key, 0) })
		})
	}
	if err := r.share(ctx, hails); err != nil {
		return err
	}
	return r.share(ctx, cancels)
}

// share shares tasks among new clients, and returns when all are done, or ctx
// ends.
func (r *run) share(ctx context.Context, tasks []func(*client)) error {
	next := make(chan func(*client))
	var group sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		one, err := r.newClient()
		if err != nil {
			return err
		}
		group.Go(func() {
			for task := range next {
				task(one)
			}
		})
	}
	for _, task := range tasks {
		if ctx.Err() != nil {
			break
		}
		next <- task
	}
	close(next)
	group.Wait()
	return ctx.Err()
}

// requestsOf returns the requests under each key that the key may belong to,
// each once.
func requestsOf(ops []*op) map[rideKey][]*op {
	requests := map[rideKey][]*op{}
	for _, o := range ops {
		if !o.Look && o.Cancel == "" && o.Variant != invalid && !slices.ContainsFunc(requests[o.id()], o.same) {
			requests[o.id()] = append(requests[o.id()], o)
		}
	}
	return requests
}

// check looks at a ride, and repeats the requests that were made under its key.
func (c *client) check(ctx context.Context, t trip, requests []*op) {
	for _, asked := range append([]*op{{Look: true}}, requests...) {
		untilKnown(func() answer {
			return c.send(ctx, t, &op{Account: t.account.id, Key: t.key, Look: asked.Look, Variant: asked.Variant, Sent: asked.Sent}, 0)
		})
	}
}

// untilKnown makes a request, and a few times more while its answer leaves open
// what it did, because on a busy machine an answer may be late.
func untilKnown(ask func() answer) {
	const most = 3
	for range most {
		if !ask().unknown() {
			return
		}
	}
}
