package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// The systems.
const (
	product     = "rocketrides"
	frozenFloor = "floor"
	floorNow    = "floor, statements of today"
	workflows   = "DBOS for Go"
	fourPhases  = "four SERIALIZABLE"
)

// A run is one call of this program.
type run struct {
	*bench
	*lab
	out     io.Writer // progress
	service *service
	rivals  []*system // what is measured in the scenario fresh beside the service
	results []result
	counted []result // with what the wire counts, and nothing else of worth
	disk    float64  // bytes of a fresh ride
}

// Run measures and reports.
func (b *bench) Run(ctx context.Context, o cli.Output) (err error) {
	if b.List {
		return b.list(o.Stdout)
	}
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	began := time.Now()
	lab, err := openLab(ctx, b.Programs)
	if lab != nil {
		defer func() { err = errors.Join(err, lab.close(ctx)) }()
	}
	if err != nil {
		return err
	}
	r := &run{bench: b, lab: lab, out: o.Stderr}
	facts, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	for round := range b.Rounds {
		if err := r.round(ctx, round+1, time.Duration(b.Seconds*float64(time.Second))); err != nil {
			return err
		}
	}
	if err := r.once(ctx); err != nil {
		return err
	}
	if err := r.count(ctx); err != nil {
		return err
	}
	facts.DiskPerRide = r.disk
	facts.Took = time.Since(began).Round(time.Second).String()
	return r.report(facts, o.Stdout)
}

// prepare starts what is measured, and warms it up: caches, plans, files.
func (r *run) prepare(ctx context.Context) (facts, error) {
	if err := r.prepareWALInspect(ctx); err != nil {
		return facts{}, err
	}
	f, err := r.facts(ctx)
	if err != nil {
		return f, err
	}
	f.print(r.out)
	fmt.Fprintln(r.out, "preparing")
	if r.service, err = r.startService(ctx, "rides", ""); err != nil {
		return f, err
	}
	if r.wants(fresh) {
		if r.rivals, err = r.startRivals(ctx); err != nil {
			return f, err
		}
	}
	warm := workload{clients: 8, seconds: r.short(2 * time.Second), wanted: []int{created, ok}}
	for _, s := range append(r.rivals, r.service.sending(freshRides(r.service.accounts))) {
		if _, err := r.measure(ctx, s, warm); err != nil {
			return f, fmt.Errorf("warming up %s: %w", s.name, err)
		}
		if err := r.exec(ctx, s.database, "VACUUM ANALYZE"); err != nil {
			return f, err
		}
	}
	return f, nil
}

// startRivals starts the floors and the peers.
func (r *run) startRivals(ctx context.Context) ([]*system, error) {
	rivals, err := r.startFloors(ctx)
	if err != nil || !r.Peers {
		return rivals, err
	}
	flows, err := r.startPeer(ctx, workflows, "dbos")
	if err != nil {
		return nil, err
	}
	four, err := r.startPeer(ctx, fourPhases, "serializable")
	return append(rivals, flows, four), err
}

// startFloors makes both floors, or none if this machine has no pgbench.
func (r *run) startFloors(ctx context.Context) ([]*system, error) {
	if _, err := findPgbench(); err != nil {
		fmt.Fprintln(r.out, "there is no pgbench on this machine, so there is no floor")
		return nil, nil //nolint:nilerr // what else there is can be measured
	}
	if err := r.createDatabase(ctx, "floor"); err != nil {
		return nil, err
	}
	if err := r.exec(ctx, "floor", frozenSchema); err != nil {
		return nil, err
	}
	frozen, err := r.startFloor(frozenFloor, "floor", frozenRide)
	if err != nil {
		return nil, err
	}
	if err := r.migrated(ctx, "floor_now"); err != nil {
		return nil, err
	}
	script, err := r.captureScript(ctx, "floor_now")
	if err != nil {
		return nil, err
	}
	now, err := r.startFloor(floorNow, "floor_now", script)
	return []*system{frozen, now}, err
}

// round measures every scenario once. In the first one, the systems take turns.
func (r *run) round(ctx context.Context, round int, lasts time.Duration) error {
	for _, s := range scenarios() {
		if !r.wants(s.name) {
			continue
		}
		next, err := r.service.callsOf(ctx, s)
		if err != nil {
			return fmt.Errorf("preparing %s: %w", s.name, err)
		}
		systems, clients := []*system{r.service.sending(next)}, []int{s.clients}
		if s.name == fresh {
			systems, clients = turns(append(systems, r.rivals...), round), r.Clients
		}
		for _, n := range clients {
			for _, system := range systems {
				if err := r.measureOne(ctx, s, system, n, round, lasts); err != nil {
					return err
				}
			}
		}
		if s.name == fresh && round == 1 { // other scenarios make other rides
			if r.disk, err = r.diskPerRide(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// turns returns the systems in the order of a round. None profits in every round
// from what ran before it: another one is the first, and every second round goes
// the other way.
func turns(systems []*system, round int) []*system {
	first := (round + len(systems) - 1) % len(systems)
	systems = slices.Concat(systems[first:], systems[:first])
	if round%2 == 0 {
		slices.Reverse(systems)
	}
	return systems
}

// counting is the number of the round in which the wire counts.
const counting = 0

// count measures everything once more, with every connection to Postgres
// through a proxy that counts.
func (r *run) count(ctx context.Context) error {
	w, err := r.startWire(ctx)
	if err != nil {
		return err
	}
	for _, s := range append(r.rivals, &r.service.system) {
		s.wire, s.url = w, r.urlVia(s.database, w.address)
		if s.start == nil {
			continue
		}
		if err := r.stop(ctx, s.service); err != nil {
			return err
		}
		if s.service, err = s.start(ctx, s.url); err != nil {
			return err
		}
	}
	lasts := time.Second
	if r.Quick {
		lasts /= 2
	}
	return r.round(ctx, counting, lasts)
}

// measureOne measures one scenario of one system.
func (r *run) measureOne(ctx context.Context, s scenario, system *system, clients, round int, lasts time.Duration) error {
	w := s.workload
	w.clients, w.seconds = clients, lasts
	// Connections take a while, and so do the first plans on each.
	w.settle = max(w.settle, 500*time.Millisecond+5*time.Millisecond*time.Duration(min(clients, 200)))
	if err := r.setLatency(ctx, s.latency); err != nil {
		return err
	}
	if s.completer {
		// What earlier scenarios have staged isn't this one's.
		if err := r.exec(ctx, system.database, "TRUNCATE staged_jobs"); err != nil {
			return err
		}
		completer, err := r.startCompleter(ctx, system.url)
		if err != nil {
			return err
		}
		defer r.stop(ctx, completer) //nolint:errcheck // it is killed at the end if it doesn't stop
		system.helper = completer
	}
	measured, err := r.measure(ctx, system, w)
	if err != nil {
		return err
	}
	measured.Scenario, measured.Round = s.name, round
	if system.name == product {
		if measured.Left, err = r.service.rest(ctx); err != nil {
			return err
		}
	}
	if round == counting {
		r.counted = append(r.counted, measured)
		fmt.Fprintf(r.out, "counting  %-11s %-5s %-27s %.2f statements, %.2f round trips\n",
			measured.Scenario, measured.load(), measured.System, measured.Statements, measured.RoundTrips)
		return nil
	}
	r.results = append(r.results, measured)
	fmt.Fprintf(r.out, "%d/%d %s\n", round, r.Rounds, measured.line())
	return nil
}
