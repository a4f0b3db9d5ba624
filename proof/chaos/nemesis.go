package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/pause"
)

// A nemesis carries out a schedule.
type nemesis struct {
	system *system
	start  time.Time
	group  sync.WaitGroup

	mu     sync.Mutex
	done   map[kind]int
	faults map[string]int // how often each toxic was added, and each Stripe fault scripted, by name
	past   []pastEvent
	err    error
}

func newNemesis(w *system, start time.Time) *nemesis {
	return &nemesis{system: w, start: start, done: map[kind]int{}, faults: map[string]int{}}
}

// run carries out the schedule, until its end or the end of ctx, and then ends
// all faults. An error is one of chaos itself, never one of the service.
func (n *nemesis) run(ctx context.Context, s schedule) error {
	for _, e := range s.events {
		_ = pause.For(ctx, time.Until(n.start.Add(e.at)))
		if ctx.Err() != nil || n.failed() != nil {
			break
		}
		n.group.Go(func() { n.do(ctx, e) })
	}
	_ = pause.For(ctx, time.Until(n.start.Add(s.total)))
	n.group.Wait()
	n.note(n.system.stripe.clear(ctx))
	return errors.Join(n.failed(), ctx.Err())
}

// do carries out one event, and returns when the event has ended.
func (n *nemesis) do(ctx context.Context, e event) {
	from := time.Now()
	happened := true
	var err error
	switch e.kind {
	case killWorker, measuredKill:
		happened = n.system.workers[e.target].kill()
	case killStripe:
		happened = n.system.workers[stripeName].kill()
	case freezeWorker:
		happened = n.system.workers[e.target].freeze(ctx, e.lasts) && e.lasts > lease
	case deployWorker:
		happened = n.system.workers[e.target].deploy(ctx)
	case killPostgres, killPostmaster, stopPostgres:
		err = n.system.database.crash(ctx, e.kind)
	case cutBackends:
		happened = n.system.database.cut(ctx, e.target) == nil // Postgres may be down
	case breakLink:
		err = n.breakLink(ctx, e)
	case scriptStripe:
		err = n.system.stripe.script(ctx, e.what, e.times)
	case slowStripe:
		err = n.system.stripe.fault(ctx, fakestripe.Fault{Kind: fakestripe.Delayed, Times: -1, Latency: slowCharges()})
		_ = pause.For(ctx, e.lasts)
		err = errors.Join(err, n.system.stripe.clear(ctx))
	case outage:
		err = n.system.stripe.fault(ctx, fakestripe.Fault{
			Kind: fakestripe.Unavailable503, Times: -1, Match: fakestripe.Match{Method: "*"},
		})
		_ = pause.For(ctx, e.lasts)
		err = errors.Join(err, n.system.stripe.clear(ctx))
	}
	n.note(err)
	if happened && err == nil {
		n.count(e, from)
	}
}

// slowCharges is how long charges take in the calm.
func slowCharges() fakestripe.Latency {
	const ms = fakestripe.Duration(time.Millisecond)
	return fakestripe.Latency{P50: 300 * ms, P99: 900 * ms}
}

// breakLink adds a toxic to a link for a while.
func (n *nemesis) breakLink(ctx context.Context, e event) error {
	if err := n.system.links.addToxic(e.target, e.what); err != nil {
		return err
	}
	_ = pause.For(ctx, e.lasts)
	return n.system.links.removeToxic(ctx, e.target)
}

// count records an event that has happened.
func (n *nemesis) count(e event, from time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done[e.kind]++
	if e.what != "" {
		n.faults[string(e.kind)+" "+e.what] += max(1, e.times)
	}
	n.past = append(n.past, pastEvent{kind: e.kind, target: e.target, from: from, to: time.Now()})
}

// note keeps the first error.
func (n *nemesis) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("carrying out the schedule: %w", err)
	}
}

// failed returns the first error.
func (n *nemesis) failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// tally returns how often events of some kinds happened.
func (n *nemesis) tally(kinds ...kind) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, k := range kinds {
		total += n.done[k]
	}
	return total
}

// eventsOf returns the events of some kinds, as they happened.
func (n *nemesis) eventsOf(kinds ...kind) []pastEvent {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []pastEvent
	for _, m := range n.past {
		for _, k := range kinds {
			if m.kind == k {
				found = append(found, m)
			}
		}
	}
	return found
}
