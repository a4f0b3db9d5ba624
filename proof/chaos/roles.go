package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A role is a way in which a client uses a key.
type role struct {
	name   string
	weight int
	play   func(r *client, ctx context.Context, t trip)
}

func roles() []role {
	return []role{
		{"patient", 20, (*client).patient},
		{"twins", 14, (*client).twins},
		{"async", 12, (*client).async},
		{"leaver", 12, (*client).leaver},
		{"mute", 18, (*client).mute},
		{"changer", 8, (*client).changer},
		{"invalid", 4, (*client).mistaken},
		{"watcher", 8, (*client).watcher},
		{"neighbours", 4, (*client).neighbours},
		{"waiter", 12, (*client).waiter},
		{"canceler", 16, (*client).canceler},
	}
}

// live asks for rides until ctx ends, with a pause of about think after each.
func (c *client) live(ctx context.Context, think time.Duration) {
	for ctx.Err() == nil {
		if c.id%8 == 0 {
			c.mute(ctx, c.newTrip()) // the figures need keys that wait for the completers
		} else if old, ok := c.again(); ok && c.roll(100) < 45 {
			c.replay(ctx, old)
		} else {
			draw(roles(), func(r role) int { return r.weight }, c.roll).play(c, ctx, c.newTrip())
		}
		_ = pause.For(ctx, c.about(think))
	}
}

// draw draws one of several, by weight. roll draws a number from 0 to n-1.
func draw[T any](all []T, weight func(T) int, roll func(n int) int) T {
	total := 0
	for _, one := range all {
		total += weight(one)
	}
	left := roll(total)
	return all[slices.IndexFunc(all, func(one T) bool {
		left -= weight(one)
		return left < 0
	})]
}

// final reports whether the answer to a hail or a cancel will not change, or
// only if a person resolves the key.
func (a answer) final() bool {
	switch a.Status {
	case http.StatusOK, http.StatusCreated, http.StatusPaymentRequired, http.StatusUnprocessableEntity:
		return true
	default:
		return a.Code == "payment_under_review" || a.Code == notCancelable && !a.Retryable
	}
}

// askUntilFinal asks until the answer is final, and returns the last answer.
func (c *client) askUntilFinal(ctx context.Context, t trip, m manner) answer {
	return c.untilFinal(ctx, func() answer { return c.hail(ctx, t, m) })
}

// untilFinal makes a request until its answer is final, with back-off and
// jitter, and returns the last answer.
func (c *client) untilFinal(ctx context.Context, ask func() answer) (last answer) {
	wait := 50 * time.Millisecond
	for try := 0; try < tries && ctx.Err() == nil; try++ {
		if last = ask(); last.final() {
			break
		}
		_ = pause.For(ctx, c.about(wait))
		wait = min(2*wait, time.Second)
	}
	return last
}

// patient asks until the answer is final.
func (c *client) patient(ctx context.Context, t trip) {
	c.askUntilFinal(ctx, t, manner{})
	c.remember(t)
}

// twins sends the same request several times at once, as an impatient app does.
func (c *client) twins(ctx context.Context, t trip) {
	var group sync.WaitGroup
	for range 2 + c.roll(3) {
		group.Go(func() { c.askUntilFinal(ctx, t, manner{}) })
	}
	group.Wait()
	c.remember(t)
}

// async asks with Prefer: respond-async.
func (c *client) async(ctx context.Context, t trip) {
	c.askUntilFinal(ctx, t, manner{async: true})
	c.remember(t)
}

// leaver closes the connection, and may ask again later.
func (c *client) leaver(ctx context.Context, t trip) {
	c.hail(ctx, t, manner{leave: time.Millisecond + time.Duration(c.roll(int(60*time.Millisecond)))})
	if c.roll(2) == 0 {
		c.askUntilFinal(ctx, t, manner{})
		c.remember(t)
	}
}

// mute asks once and never again, so a completer must finish the key.
func (c *client) mute(ctx context.Context, t trip) {
	c.hail(ctx, t, manner{async: c.roll(3) == 0})
}

// changer also sends other parameters under the key, at the same time or later.
func (c *client) changer(ctx context.Context, t trip) {
	var group sync.WaitGroup
	group.Go(func() { c.askUntilFinal(ctx, t, manner{}) })
	if c.roll(2) == 0 {
		group.Wait()
	}
	c.askUntilFinal(ctx, t, manner{variant: changed})
	group.Wait()
	c.remember(t)
}

// mistaken sends invalid parameters, after which the key can still be used.
func (c *client) mistaken(ctx context.Context, t trip) {
	c.askUntilFinal(ctx, t, manner{variant: invalid})
	c.askUntilFinal(ctx, t, manner{})
	if c.roll(2) == 0 {
		c.askUntilFinal(ctx, t, manner{variant: invalid})
	}
	c.remember(t)
}

// watcher looks at the ride while it asks for it.
func (c *client) watcher(ctx context.Context, t trip) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(done)
		c.askUntilFinal(ctx, t, manner{})
	})
	for looks := 0; looks < 12; looks++ {
		select {
		case <-done:
			looks = 12 // once more, after the answer
		default:
		}
		c.look(ctx, t)
		_ = pause.For(ctx, c.about(40*time.Millisecond))
	}
	group.Wait()
	c.remember(t)
}

// waiter sends the same request several times at once, and looks at its ride.
// All of them prefer to wait, some for the end of a ride in the background.
func (c *client) waiter(ctx context.Context, t trip) {
	var group sync.WaitGroup
	for range 2 + c.roll(2) {
		group.Go(func() { c.askUntilFinal(ctx, t, manner{async: c.roll(2) == 0, wait: 1 + c.roll(3)}) })
	}
	for range 2 {
		c.await(ctx, t)
	}
	group.Wait()
	c.await(ctx, t)
	c.remember(t)
}

// neighbours uses one key in two accounts, which must not affect each other.
func (c *client) neighbours(ctx context.Context, t trip) {
	other := t
	other.account, other.lat = c.accounts[c.roll(len(c.accounts))], t.lat+0.1
	if other.account == t.account {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { c.askUntilFinal(ctx, other, manner{}) })
	c.askUntilFinal(ctx, t, manner{})
	group.Wait()
	c.remember(t)
	c.remember(other)
}

// replay repeats the request of any client.
func (c *client) replay(ctx context.Context, t trip) {
	if c.roll(4) == 0 {
		c.look(ctx, t)
		return
	}
	c.hail(ctx, t, manner{})
}
