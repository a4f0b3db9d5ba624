package main

import (
	"context"
	"fmt"
	"time"
)

// once measures what takes long enough to need no rounds.
func (r *run) once(ctx context.Context) error {
	if err := r.setLatency(ctx, 0); err != nil {
		return err
	}
	if r.wants(openLoop) {
		if err := r.measureOpenLoop(ctx); err != nil {
			return err
		}
	}
	if r.wants(growth) {
		if err := r.measureGrowth(ctx); err != nil {
			return err
		}
	}
	return r.stress(ctx)
}

// measureOpenLoop sends rides at half of the best rate that the service has
// reached.
func (r *run) measureOpenLoop(ctx context.Context) error {
	best, err := r.bestRate(ctx)
	if err != nil {
		return err
	}
	w := workload{rate: best / 2, seconds: r.short(time.Minute), settle: time.Second, wanted: []int{created}}
	return r.add(ctx, openLoop, r.service, r.service.sending(freshRides(r.service.accounts)), w)
}

// bestRate is the most fresh rides a second that the service has reached. If
// that wasn't measured, it is now.
func (r *run) bestRate(ctx context.Context) (best float64, err error) {
	for _, m := range medians(r.results) {
		if m.Scenario == fresh && m.System == product {
			best = max(best, m.PerSecond)
		}
	}
	if best > 0 {
		return best, nil
	}
	w := workload{clients: 32, seconds: 5 * time.Second, settle: time.Second, wanted: []int{created}}
	m, err := r.measure(ctx, r.service.sending(freshRides(r.service.accounts)), w)
	return max(m.PerSecond, 1), err
}

// short returns how long something takes, which is less in a quick run.
func (b *bench) short(d time.Duration) time.Duration {
	if b.Quick {
		return d / 6
	}
	return d
}

// growthParts are the times that a database's growth is measured in.
const growthParts = 4

// measureGrowth hails rides in a database that is empty at first, and has no
// statistics but those that autovacuum makes.
func (r *run) measureGrowth(ctx context.Context) error {
	s, err := r.startService(ctx, "growth", "")
	if err != nil {
		return err
	}
	defer s.pool.Close()
	w := workload{clients: 32, seconds: r.short(10 * time.Second), wanted: []int{created}}
	next := freshRides(s.accounts)
	for part := range growthParts {
		if err := r.add(ctx, fmt.Sprintf("%s %d/%d", growth, part+1, growthParts), s, s.sending(next), w); err != nil {
			return err
		}
	}
	return r.stop(ctx, s.service)
}

// add measures something of a service once.
func (r *run) add(ctx context.Context, name string, s *service, loaded *system, w workload) error {
	m, err := r.measure(ctx, loaded, w)
	if err != nil {
		return err
	}
	m.Scenario, m.Round = name, 1
	if m.Left, err = s.rest(ctx); err != nil {
		return err
	}
	r.results = append(r.results, m)
	fmt.Fprintf(r.out, "once %s\n", m.line())
	return nil
}
