package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A system is what is measured: a service and its database, or pgbench.
type system struct {
	name     string
	database string
	url      string   // of the database, for the processes of the system
	service  *program // nil for pgbench
	helper   *program // the completer, if it runs; nil otherwise
	wire     *wire    // in front of the database; nil unless it counts

	// start starts the service; nil for pgbench.
	start func(ctx context.Context, databaseURL string) (*program, error)
	// load loads the system until ctx ends.
	load func(ctx context.Context, w workload, r *recorder) error
}

// A workload is how much load there is: clients in a closed loop, or a rate.
type workload struct {
	clients int
	rate    float64 // requests a second of an open loop; 0 means a closed one
	seconds time.Duration
	settle  time.Duration // before the measurement
	ends    bool          // the load ends by itself, at last after seconds
	wanted  []int         // the statuses that count; others are failures
}

// A result is one measurement. What ends in PerRide is divided by the number of
// answers that count.
type result struct {
	Scenario string  `json:"scenario"`
	System   string  `json:"system"`
	Clients  int     `json:"clients,omitempty"`
	Rate     float64 `json:"rate,omitempty"`
	Round    int     `json:"round"`
	Seconds  float64 `json:"seconds"`

	Answers   int            `json:"answers"`
	Failures  map[string]int `json:"failures,omitempty"` // by status
	PerSecond float64        `json:"per_second"`
	P50       float64        `json:"p50_ms"`
	P95       float64        `json:"p95_ms"`
	P99       float64        `json:"p99_ms"`
	Max       float64        `json:"max_ms"`
	Refused99 float64        `json:"refused_p99_ms,omitempty"` // of the failures

	Commits     float64 `json:"commits_per_ride"` // that wrote
	Statements  float64 `json:"statements_per_ride"`
	RoundTrips  float64 `json:"round_trips_per_ride"`
	WAL         float64 `json:"wal_bytes_per_ride"` // without full-page images
	PageImages  float64 `json:"full_page_image_bytes_per_ride"`
	PostgresCPU float64 `json:"postgres_cpu_us_per_ride"`
	ServiceCPU  float64 `json:"service_cpu_us_per_ride"`
	HelperCPU   float64 `json:"completer_cpu_us_per_ride"`
	StripeCPU   float64 `json:"stripe_stub_cpu_us_per_ride"`
	LoadCPU     float64 `json:"load_cpu_us_per_ride"`
	Allocations float64 `json:"service_allocations_per_ride"`
	PeakMemory  int64   `json:"service_peak_memory_bytes"`
	Connections int     `json:"connections"`
	Left        int     `json:"left_to_the_completer,omitempty"`
	Reaped      float64 `json:"reaped_per_second,omitempty"`

	Foreign float64 `json:"machine_used_by_others"` // share of its processors
	Steal   float64 `json:"machine_stolen"`         // by the hypervisor
}

// measure loads a system, and returns what the counters have counted between
// the settling and the end.
func (l *lab) measure(ctx context.Context, s *system, w workload) (result, error) {
	r := new(recorder)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	start := func() { go func() { ended <- s.load(loading, w, r) }() }
	var before snapshot
	var err error
	if w.ends { // all of it is measured
		before, err = l.snapshot(ctx, s)
		start()
	} else {
		start()
		before, err = l.settle(ctx, s, w, ended)
	}
	if err != nil {
		return result{}, err
	}
	select {
	case err := <-ended:
		if err != nil || !w.ends {
			return result{}, endedEarly(ctx, s, err)
		}
		ended <- nil
	case <-time.After(w.seconds):
	}
	after, err := l.snapshot(ctx, s)
	if err != nil {
		return result{}, err
	}
	connections, err := l.connections(ctx, s.database)
	if err != nil {
		return result{}, err
	}
	stop()
	if err := <-ended; err != nil {
		return result{}, err
	}
	made := result{System: s.name, Clients: w.clients, Rate: w.rate, Connections: connections}
	made.judge(r.between(before.at, after.at), w.wanted, after.at.Sub(before.at))
	if err := l.spread(ctx, &made, before, after); err != nil {
		return result{}, err
	}
	if s.service != nil {
		made.PeakMemory = peakMemory(s.service.PID())
	}
	return made, nil
}

// endedEarly is the error for a load that has ended before the measurement: the
// user has interrupted it, or it failed.
func endedEarly(ctx context.Context, s *system, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(fmt.Errorf("the load of %s ended early", s.name), err)
}

// settle waits until the load is as it will be, and returns the counters at
// that time.
func (l *lab) settle(ctx context.Context, s *system, w workload, ended chan error) (snapshot, error) {
	if s.service == nil {
		if err := l.awaitPgbench(ctx, s, w.clients, ended); err != nil {
			return snapshot{}, err
		}
	}
	select {
	case err := <-ended:
		return snapshot{}, endedEarly(ctx, s, err)
	case <-time.After(w.settle):
	}
	if s.service != nil {
		resetPeak(s.service.PID())
	}
	return l.snapshot(ctx, s)
}

// awaitPgbench waits until pgbench has made all its connections, and has
// prepared its statements on them: until each has committed about one ride.
func (l *lab) awaitPgbench(ctx context.Context, s *system, clients int, ended <-chan error) error {
	var first int64
	for {
		now, err := l.snapshot(ctx, s)
		if err != nil {
			return err
		}
		n, err := l.connections(ctx, s.database)
		if err != nil {
			return err
		}
		switch {
		case n < clients:
			first = now.transactions
		case now.transactions >= first+2*int64(clients):
			return nil
		}
		select {
		case err := <-ended:
			return endedEarly(ctx, s, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// judge counts the answers and their latencies.
func (r *result) judge(samples []sample, wanted []int, lasted time.Duration) {
	var latencies, refused []time.Duration
	for _, s := range samples {
		if slices.Contains(wanted, s.status) {
			latencies = append(latencies, s.latency)
			continue
		}
		if r.Failures == nil {
			r.Failures = map[string]int{}
		}
		r.Failures[strconv.Itoa(s.status)]++
		refused = append(refused, s.latency)
	}
	r.Seconds, r.Answers = lasted.Seconds(), len(latencies)
	r.PerSecond = float64(r.Answers) / r.Seconds
	slices.Sort(latencies)
	slices.Sort(refused)
	r.P50, r.P95, r.P99, r.Max = quantile(latencies, 50), quantile(latencies, 95), quantile(latencies, 99), quantile(latencies, 100)
	r.Refused99 = quantile(refused, 99)
}

// quantile returns the least latency that so many percent of the sorted ones
// don't exceed, in milliseconds, or 0 if there are none.
func quantile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1].Seconds() * 1e3
}

// spread divides what was used by the number of answers.
func (l *lab) spread(ctx context.Context, r *result, before, after snapshot) error {
	rides := max(float64(r.Answers), 1)
	micros := func(d time.Duration) float64 { return float64(d.Microseconds()) / rides }
	r.PostgresCPU, r.ServiceCPU = micros(after.postgres-before.postgres), micros(after.service-before.service)
	r.HelperCPU, r.StripeCPU = micros(after.helper-before.helper), micros(after.stripe-before.stripe)
	r.LoadCPU = micros(after.load - before.load)
	r.Commits = float64(after.transactions-before.transactions) / rides
	r.Statements = float64(after.statements-before.statements) / rides
	r.RoundTrips = float64(after.trips-before.trips) / rides
	r.Allocations = (after.allocations - before.allocations) / rides

	var all, images float64
	err := l.admin.QueryRow(ctx, `SELECT $2::pg_lsn - $1::pg_lsn`, before.wal, after.wal).Scan(&all)
	if err != nil {
		return err
	}
	if images, err = l.pageImages(ctx, before.wal, after.wal); err != nil {
		return err
	}
	r.WAL, r.PageImages = (all-images)/rides, images/rides

	ours := after.postgres + after.service + after.helper + after.stripe + after.load -
		before.postgres - before.service - before.helper - before.stripe - before.load
	all = float64(processors()) * r.Seconds
	r.Foreign = max((after.machine.busy-before.machine.busy-ours).Seconds()/all, 0)
	r.Steal = (after.machine.steal - before.machine.steal).Seconds() / all
	return nil
}
