package simulator

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/pause"
)

// A trouble is one that riders have, or make.
type trouble string

const (
	impatient   trouble = "impatient"
	doubleClick trouble = "double clicks"
	dropped     trouble = "dropped connections"
	crashed     trouble = "crashes"
	leftAlone   trouble = "left to itself"
)

// troubles returns all troubles, in the order in which people see them.
func troubles() []trouble {
	return []trouble{impatient, doubleClick, dropped, crashed, leftAlone}
}

// A rider is a person who wants one ride after the other.
type rider struct {
	*simulation
	random *rand.Rand
	client *client.Client
}

func newRider(s *simulation, i int) *rider {
	r := &rider{simulation: s, random: rand.New(rand.NewPCG(s.Seed, uint64(i)))} //nolint:gosec // it must be repeatable; keys come from elsewhere
	r.start()
	return r
}

// start starts the rider's program anew: it has forgotten everything but what
// is in the wish.
func (r *rider) start() {
	c, err := r.newClient()
	if err != nil { // it was made once already, with the same settings
		panic("simulator: " + err.Error())
	}
	r.client = c
}

// ride wants rides until riding ends, and then waits for the last one until
// settling ends.
func (r *rider) ride(riding, settling context.Context) {
	for r.pause(riding, r.Pace) == nil {
		w := r.book.begin(r.newWish())
		for first := true; w.outcome == "" && settling.Err() == nil; first = false {
			if !first {
				_ = r.pause(settling, r.Pace)
			}
			if riding.Err() != nil {
				r.ask(settling, w)
				continue
			}
			r.askInTrouble(settling, w)
		}
		// Who wants a cancel still has all of the time to settle.
		if w.ride != "" && riding.Err() == nil && r.random.IntN(8) == 0 {
			r.changeMind(settling, w)
		}
	}
}

// changeMind cancels a ride, on a line that may break, and asks until the answer
// is clear. It keeps the key of the cancel as it keeps that of the ride. The
// ride may be declined: then nothing may be given back.
func (r *rider) changeMind(ctx context.Context, w *wish) {
	key := client.NewKey()
	w.cancel = cancelAsked
	for ctx.Err() == nil {
		line := ctx
		if at := r.random.IntN(3 * len(breaks())); at < len(breaks()) {
			r.book.suffer(dropped)
			line = breaking(ctx, breaks()[at])
		}
		answer, err := r.client.Cancel(line, w.ride, key)
		problem, refused := errors.AsType[*client.Problem](err)
		switch {
		case err == nil && answer.Ride.Status == client.StatusCanceled:
			w.cancel = cancelDone
			return
		case refused && problem.Code == client.CodeRideNotCancelable && !problem.Retryable:
			w.cancel = cancelRefused
			return
		case refused && problem.Code == client.CodePaymentUnderReview:
			w.cancel = cancelUnderReview
		}
		_ = r.pause(ctx, r.Pace)
	}
}

// pause waits for mean on average, and never three times as long.
func (r *rider) pause(ctx context.Context, mean time.Duration) error {
	return pause.For(ctx, min(time.Duration(r.random.ExpFloat64()*float64(mean)), 3*mean))
}

// newWish is for a ride in and around San Francisco.
func (r *rider) newWish() client.NewRide {
	place := func() client.Point {
		return client.Point{Lat: 37.7 + r.random.Float64()/5, Lon: -122.5 + r.random.Float64()/5}
	}
	return client.NewRide{Origin: place(), Target: place(), Key: client.NewKey()}
}

// askInTrouble hails the ride of a wish, or asks again for it, as a person
// happens to.
func (r *rider) askInTrouble(ctx context.Context, w *wish) {
	moment := time.Duration(r.random.ExpFloat64() * float64(150*time.Millisecond))
	switch r.random.IntN(10) {
	case 0, 1: // goes on to something else, and comes back
		r.book.suffer(impatient)
		r.askFor(ctx, w, moment)
	case 2: // clicks twice, or in two windows
		r.book.suffer(doubleClick)
		var both sync.WaitGroup
		both.Go(func() { r.ask(ctx, w) })
		both.Go(func() { r.ask(ctx, w) })
		both.Wait()
	case 3, 4: // drives into a tunnel
		r.book.suffer(dropped)
		r.ask(breaking(ctx, breaks()[r.random.IntN(len(breaks()))]), w)
	case 5: // the program dies, and is started again
		r.book.suffer(crashed)
		r.askFor(ctx, w, moment)
		r.start()
	case 6: // trusts the service to go on by itself
		r.book.suffer(leftAlone)
		r.askAsync(ctx, w)
	default: // nothing happens
		r.ask(ctx, w)
	}
}

// askFor asks for no longer than patience.
func (r *rider) askFor(ctx context.Context, w *wish, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.ask(ctx, w)
}

// ask sends the request, with its retries, and notes what came of it.
func (r *rider) ask(ctx context.Context, w *wish) {
	answer, err := r.client.Create(ctx, w.request)
	r.note(w, answer.Ride, err)
}

// askAsync lets the ride be charged afterwards, and waits for it.
func (r *rider) askAsync(ctx context.Context, w *wish) {
	request := w.request
	request.Async = true
	answer, err := r.client.Create(ctx, request)
	ride := answer.Ride
	if err == nil && answer.Pending {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		ride, err = r.client.Wait(ctx, answer.Ride.ID)
	}
	r.note(w, ride, err)
}

// note notes an outcome. Everything else leaves the wish as it is: the rider
// asks again.
func (r *rider) note(w *wish, ride client.Ride, err error) {
	problem, refused := errors.AsType[*client.Problem](err)
	switch {
	case refused && problem.Status == http.StatusPaymentRequired:
		r.book.told(w, outcomeDeclined, "")
	case err != nil:
	case ride.Status == client.StatusCharged:
		r.book.told(w, outcomeCharged, ride.ID)
	case ride.Status == client.StatusDeclined:
		r.book.told(w, outcomeDeclined, ride.ID)
	}
}
