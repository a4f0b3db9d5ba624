package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Scenarios that are measured only if they are named, once, and of the service
// alone. Each has a service and a database of its own.
const (
	inFlight = "in-flight"
	overload = "overload"
	burst    = "burst"
	rows     = "rows"
)

// stress measures those that are wanted.
func (r *run) stress(ctx context.Context) error {
	for _, one := range []struct {
		name    string
		measure func(context.Context) error
	}{{inFlight, r.measureInFlight}, {overload, r.measureOverload}, {burst, r.measureBurst}, {rows, r.measureRows}} {
		if !r.named(one.name) {
			continue
		}
		if err := errors.Join(one.measure(ctx), r.setLatency(ctx, 0)); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

// measureInFlight lets 10,000 rides wait for Stripe at once.
func (r *run) measureInFlight(ctx context.Context) error {
	const rate, lasts, latency = 1000, 10 * time.Second, 15 * time.Second
	s, err := r.startService(ctx, "in_flight", "", "MAX_RIDES=20000", "MAX_RIDES_PER_ACCOUNT=20000")
	if err != nil {
		return err
	}
	defer r.end(ctx, s)
	if err := r.setLatency(ctx, latency); err != nil {
		return err
	}
	loaded := s.sending(freshRides(s.accounts))
	send := loaded.load
	loaded.load = func(ctx context.Context, w workload, rec *recorder) error {
		sending, stop := context.WithTimeout(ctx, lasts)
		defer stop()
		return send(sending, w, rec)
	}
	return r.add(ctx, inFlight, s, loaded, workload{rate: rate, seconds: time.Minute, ends: true, wanted: []int{created}})
}

// measureOverload sends ten times as many rides as the service can serve, and
// soon after that half as many as it can.
func (r *run) measureOverload(ctx context.Context) error {
	best, err := r.bestRate(ctx)
	if err != nil {
		return err
	}
	s, err := r.startService(ctx, "overload", "")
	if err != nil {
		return err
	}
	defer r.end(ctx, s)
	w := workload{rate: 10 * best, seconds: r.short(30 * time.Second), settle: time.Second, wanted: []int{created}}
	next := freshRides(s.accounts)
	if err := r.add(ctx, overload, s, s.sending(next), w); err != nil {
		return err
	}
	w.rate /= 20
	return r.add(ctx, "after flood", s, s.sending(next), w)
}

// measureBurst sends 2,000 requests with one key at once.
func (r *run) measureBurst(ctx context.Context) error {
	const requests = 2000
	w, err := r.startWire(ctx)
	if err != nil {
		return err
	}
	s, err := r.startService(ctx, "burst", w.address)
	if err != nil {
		return err
	}
	defer r.end(ctx, s)
	s.wire = w
	ride := rides(s.accounts)
	loaded := s.system
	loaded.load = func(_ context.Context, _ workload, rec *recorder) error {
		var group sync.WaitGroup
		for range requests {
			start := time.Now()
			group.Go(func() {
				c := client{address: s.service.address}
				defer c.close()
				status := c.send(ride(0))
				rec.add(sample{end: time.Now(), latency: time.Since(start), status: status})
			})
		}
		group.Wait()
		return nil
	}
	wanted := hotKeyAnswers()
	if _, err := r.measure(ctx, s.sending(freshRides(s.accounts)), workload{clients: 8, seconds: time.Second, wanted: []int{created}}); err != nil {
		return err // a warm-up, in which statements are prepared
	}
	return r.add(ctx, burst, s, &loaded, workload{clients: requests, seconds: time.Minute, ends: true, wanted: wanted})
}
