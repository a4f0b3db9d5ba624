package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// notCancelable is the code with which a cancel is refused.
const notCancelable = "ride_not_cancelable"

// canceler hails a ride, and cancels it under several keys at once. Some of them
// are used twice at once, and some once and never again.
func (c *client) canceler(ctx context.Context, t trip) {
	var ride struct{ ID string }
	hailed := c.askUntilFinal(ctx, t, manner{})
	if hailed.Status != http.StatusCreated || json.Unmarshal([]byte(hailed.Body), &ride) != nil {
		return
	}
	var group sync.WaitGroup
	for n := range 1 + c.roll(4) {
		key := fmt.Sprint(t.key, "-cancel-", n)
		switch c.roll(4) {
		case 0:
			group.Go(func() { c.cancel(ctx, t, ride.ID, key, time.Duration(c.roll(int(100*time.Millisecond)))) })
		case 1:
			group.Go(func() { c.cancelUntilFinal(ctx, t, ride.ID, key) })
			fallthrough
		default:
			group.Go(func() { c.cancelUntilFinal(ctx, t, ride.ID, key) })
		}
	}
	group.Wait()
}

func (c *client) cancelUntilFinal(ctx context.Context, t trip, ride, key string) {
	c.untilFinal(ctx, func() answer { return c.cancel(ctx, t, ride, key, 0) })
}

// cancel asks one of the apis to cancel a ride, once.
func (c *client) cancel(ctx context.Context, t trip, ride, key string, leave time.Duration) answer {
	return c.send(ctx, t, &op{Account: t.account.id, Key: key, Cancel: ride}, leave)
}

// hailsOf returns the history without its cancels.
func hailsOf(ops []*op) []*op {
	return slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return o.Cancel != "" })
}

// cancelsOf returns only the cancels of a history.
func cancelsOf(ops []*op) []*op {
	return slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return o.Cancel == "" })
}
