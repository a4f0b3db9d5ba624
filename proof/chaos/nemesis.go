package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// A nemesis carries out a schedule.
type nemesis struct {
	world *world
	start time.Time
	group sync.WaitGroup

	mu     sync.Mutex
	done   map[kind]int
	faults map[string]int // toxics and Stripe faults, by name
	marks  []mark
	err    error
}

func newNemesis(w *world, start time.Time) *nemesis {
	return &nemesis{world: w, start: start, done: map[kind]int{}, faults: map[string]int{}}
}

// run does what the schedule says, until its end or ctx's, and ends all faults.
// An error means that this program can't do what it should, and never that the
// service did wrong.
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
	n.note(n.world.stripe.clear(ctx))
	return errors.Join(n.failed(), ctx.Err())
}

// do carries out one event, and returns when it is over.
func (n *nemesis) do(ctx context.Context, e event) {
	from := time.Now()
	happened := true
	var err error
	switch e.kind {
	case killWorker, measuredKill:
		happened = n.world.workers[e.target].kill()
	case killStripe:
		happened = n.world.workers[stripeName].kill()
	case freezeWorker:
		happened = n.world.workers[e.target].freeze(ctx, e.lasts) && e.lasts > lease
	case deployWorker:
		happened = n.world.workers[e.target].deploy(ctx)
	case killPostgres, killPostmaster, stopPostgres:
		err = n.world.database.crash(ctx, e.kind)
	case cutBackends:
		happened = n.world.database.cut(ctx, e.target) == nil // Postgres may be down
	case breakLink:
		err = n.breakLink(ctx, e)
	case scriptStripe:
		err = n.world.stripe.script(ctx, e.what, e.times)
	case slowStripe:
		err = n.world.stripe.fault(ctx, `{"kind":"latency","times":-1,"latency":{"p50":"300ms","p99":"900ms"}}`)
		_ = pause.For(ctx, e.lasts)
		err = errors.Join(err, n.world.stripe.clear(ctx))
	case outage:
		err = n.world.stripe.fault(ctx, `{"kind":"503","times":-1,"match":{"method":"*"}}`)
		_ = pause.For(ctx, e.lasts)
		err = errors.Join(err, n.world.stripe.clear(ctx))
	}
	n.note(err)
	if happened && err == nil {
		n.count(e, from)
	}
}

func (n *nemesis) breakLink(ctx context.Context, e event) error {
	if err := n.world.links.poison(e.target, e.what); err != nil {
		return err
	}
	_ = pause.For(ctx, e.lasts)
	return n.world.links.heal(ctx, e.target)
}

// count notes what has happened.
func (n *nemesis) count(e event, from time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done[e.kind]++
	if e.what != "" {
		n.faults[string(e.kind)+" "+e.what] += max(1, e.times)
	}
	n.marks = append(n.marks, mark{kind: e.kind, target: e.target, from: from, to: time.Now()})
}

func (n *nemesis) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("the nemesis can't go on: %w", err)
	}
}

func (n *nemesis) failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// tally returns how often something happened.
func (n *nemesis) tally(kinds ...kind) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, k := range kinds {
		total += n.done[k]
	}
	return total
}

// marksOf returns the events of some kinds, as they happened.
func (n *nemesis) marksOf(kinds ...kind) []mark {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []mark
	for _, m := range n.marks {
		for _, k := range kinds {
			if m.kind == k {
				found = append(found, m)
			}
		}
	}
	return found
}
