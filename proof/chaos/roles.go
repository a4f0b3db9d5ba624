package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A role is a way in which a client behaves towards one key.
type role struct {
	name   string
	weight int
	play   func(r *rider, ctx context.Context, t trip)
}

func roles() []role {
	return []role{
		{"patient", 20, (*rider).patient},
		{"twins", 14, (*rider).twins},
		{"async", 12, (*rider).async},
		{"leaver", 12, (*rider).leaver},
		{"mute", 18, (*rider).mute},
		{"changer", 8, (*rider).changer},
		{"invalid", 4, (*rider).mistaken},
		{"watcher", 8, (*rider).watcher},
		{"neighbours", 4, (*rider).neighbours},
	}
}

// live asks for rides until ctx ends, with a pause around think after each.
func (r *rider) live(ctx context.Context, think time.Duration) {
	total := 0
	for _, role := range roles() {
		total += role.weight
	}
	for ctx.Err() == nil {
		if r.id%8 == 0 {
			r.mute(ctx, r.newTrip()) // for the figures: keys that wait for the completers
		} else if old, ok := r.again(); ok && r.roll(100) < 45 {
			r.replay(ctx, old)
		} else {
			left := r.roll(total)
			for _, role := range roles() {
				if left -= role.weight; left < 0 {
					role.play(r, ctx, r.newTrip())
					break
				}
			}
		}
		_ = pause.For(ctx, r.about(think))
	}
}

// over tells that an answer to a hail will not change, or that only a person
// can change it.
func (a answer) over() bool {
	switch a.Status {
	case http.StatusCreated, http.StatusPaymentRequired, http.StatusUnprocessableEntity:
		return true
	default:
		return a.Code == "payment_under_review"
	}
}

// insist asks until there is an answer that will not change, with back-off and
// jitter.
func (r *rider) insist(ctx context.Context, t trip, w wish) {
	wait := 50 * time.Millisecond
	for try := 0; try < tries && ctx.Err() == nil; try++ {
		if r.hail(ctx, t, w).over() {
			return
		}
		_ = pause.For(ctx, r.about(wait))
		wait = min(2*wait, time.Second)
	}
}

func (r *rider) patient(ctx context.Context, t trip) {
	r.insist(ctx, t, wish{})
	r.remember(t)
}

// twins ask for the same thing at the same time, as an impatient app does.
func (r *rider) twins(ctx context.Context, t trip) {
	var group sync.WaitGroup
	for range 2 + r.roll(3) {
		group.Go(func() { r.insist(ctx, t, wish{}) })
	}
	group.Wait()
	r.remember(t)
}

func (r *rider) async(ctx context.Context, t trip) {
	r.insist(ctx, t, wish{async: true})
	r.remember(t)
}

// leaver closes the socket, and may come back.
func (r *rider) leaver(ctx context.Context, t trip) {
	r.hail(ctx, t, wish{leave: time.Millisecond + time.Duration(r.roll(int(60*time.Millisecond)))})
	if r.roll(2) == 0 {
		r.insist(ctx, t, wish{})
		r.remember(t)
	}
}

// mute asks once and never again: what it began is the completers' to finish.
func (r *rider) mute(ctx context.Context, t trip) {
	r.hail(ctx, t, wish{async: r.roll(3) == 0})
}

// changer sends other parameters under the same key, at the same time or later.
func (r *rider) changer(ctx context.Context, t trip) {
	var group sync.WaitGroup
	group.Go(func() { r.insist(ctx, t, wish{}) })
	if r.roll(2) == 0 {
		group.Wait()
	}
	r.insist(ctx, t, wish{variant: changed})
	group.Wait()
	r.remember(t)
}

// mistaken sends what no ride can have; the key stays good for what is right.
func (r *rider) mistaken(ctx context.Context, t trip) {
	r.insist(ctx, t, wish{variant: invalid})
	r.insist(ctx, t, wish{})
	if r.roll(2) == 0 {
		r.insist(ctx, t, wish{variant: invalid})
	}
	r.remember(t)
}

// watcher looks on while the ride is made.
func (r *rider) watcher(ctx context.Context, t trip) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(done)
		r.insist(ctx, t, wish{})
	})
	for looks := 0; looks < 12; looks++ {
		select {
		case <-done:
			looks = 12 // once more, now that it is over
		default:
		}
		r.look(ctx, t)
		_ = pause.For(ctx, r.about(40*time.Millisecond))
	}
	group.Wait()
	r.remember(t)
}

// neighbours are two accounts with one key, who must not notice each other.
func (r *rider) neighbours(ctx context.Context, t trip) {
	other := t
	other.account, other.lat = r.accounts[r.roll(len(r.accounts))], t.lat+0.1
	if other.account == t.account {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { r.insist(ctx, other, wish{}) })
	r.insist(ctx, t, wish{})
	group.Wait()
	r.remember(t)
	r.remember(other)
}

// replay asks for what somebody else has asked for.
func (r *rider) replay(ctx context.Context, t trip) {
	if r.roll(4) == 0 {
		r.look(ctx, t)
		return
	}
	r.hail(ctx, t, wish{})
}
