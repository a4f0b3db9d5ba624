package main

import (
	"context"
	"fmt"
	"time"
)

// once measures what takes long enough to need no rounds.
func (r *run) once(ctx context.Context) error {
	if r.wants(openLoop) {
		if err := r.measureOpenLoop(ctx); err != nil {
			return err
		}
	}
	if r.wants(growth) {
		return r.measureGrowth(ctx)
	}
	return nil
}

// measureOpenLoop sends rides at half of the best rate that the service has
// reached.
func (r *run) measureOpenLoop(ctx context.Context) error {
	next := freshRides(r.service.accounts)
	best := 0.0
	for _, m := range medians(r.results) {
		if m.Scenario == fresh && m.System == product {
			best = max(best, m.PerSecond)
		}
	}
	if best == 0 { // the scenario fresh isn't wanted
		m, err := r.measure(ctx, r.service.sending(next), workload{clients: 32, seconds: 5 * time.Second, settle: time.Second, wanted: []int{created}})
		if err != nil {
			return err
		}
		best = m.PerSecond
	}
	w := workload{rate: best / 2, seconds: r.short(time.Minute), settle: time.Second, wanted: []int{created}}
	return r.add(ctx, openLoop, r.service, next, w)
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
	s, err := r.startService(ctx, "growth")
	if err != nil {
		return err
	}
	defer s.pool.Close()
	w := workload{clients: 32, seconds: r.short(10 * time.Second), wanted: []int{created}}
	next := freshRides(s.accounts)
	for part := range growthParts {
		if err := r.add(ctx, fmt.Sprintf("%s %d/%d", growth, part+1, growthParts), s, next, w); err != nil {
			return err
		}
	}
	return r.stop(ctx, s.service)
}

// add measures something of a service once.
func (r *run) add(ctx context.Context, name string, s *service, next calls, w workload) error {
	if err := r.setLatency(ctx, 0); err != nil {
		return err
	}
	m, err := r.measure(ctx, s.sending(next), w)
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
