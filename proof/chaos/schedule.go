package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A kind is what an event does.
type kind string

const (
	// killWorker is kill -9. The process is started again at once.
	killWorker kind = "kill"
	// freezeWorker is SIGSTOP, and SIGCONT after its lease has ended.
	freezeWorker kind = "freeze"
	// deployWorker ends a process with SIGTERM and starts the other release.
	deployWorker kind = "deploy"
	// killPostgres is kill -9 of all processes of Postgres. killPostmaster is
	// kill -9 of the postmaster alone, whose children then end by themselves.
	// stopPostgres is an immediate shutdown.
	killPostgres   kind = "pg-kill"
	killPostmaster kind = "pg-orphan"
	stopPostgres   kind = "pg-stop"
	// cutBackends is pg_terminate_backend of all sessions of one process.
	cutBackends kind = "pg-cut"
	// breakLink adds a toxic to a link for a while.
	breakLink kind = "link"
	// scriptStripe makes the fake Stripe misbehave a few times.
	scriptStripe kind = "stripe"
	// killStripe is kill -9 of the fake Stripe.
	killStripe kind = "stripe-kill"
	// slowStripe makes every charge slow, so that many are in flight when a
	// process is killed.
	slowStripe kind = "stripe-slow"
	// measuredKill is a kill of an api in the calm, for the figures of
	// abandoned keys.
	measuredKill kind = "measured-kill"
	// outage makes Stripe refuse everything for a while in the calm, for the
	// figures of released keys.
	outage kind = "outage"
)

// An event is one line of a schedule.
type event struct {
	at     time.Duration // since the start
	kind   kind
	target string        // a worker or a link; empty if there is only one target
	what   string        // the name of a toxic or of a Stripe fault
	times  int           // how often a Stripe fault hits
	lasts  time.Duration // 0 if the event has no duration
}

// String returns the event as a line.
func (e event) String() string {
	line := fmt.Sprintf("%8.3fs  %-13s %-12s %s", e.at.Seconds(), e.kind, e.target, e.what)
	if e.times > 0 {
		line += fmt.Sprintf(" ×%d", e.times)
	}
	if e.lasts > 0 {
		line += " for " + e.lasts.Round(time.Millisecond).String()
	}
	return strings.TrimRight(line, " ")
}

// A schedule is everything that the nemesis will do, in order: first the calm,
// in which the figures are measured, then the storm.
type schedule struct {
	events []event
	// calm is when the calm ends and the storm begins.
	calm time.Duration
	// total is when all faults end.
	total time.Duration
}

// calmShort and calmLong are the bounds of the length of the calm.
const calmShort, calmLong = 20 * time.Second, 75 * time.Second

// shortestRun has room for the shortest calm and a storm as long.
const shortestRun = 2 * calmShort

// newSchedule draws a schedule. It depends only on the seed and the duration,
// which must be at least shortestRun. The first eighth of it, from 20 to 75
// seconds, is the calm.
func newSchedule(seed uint64, duration time.Duration) schedule {
	s := schedule{calm: min(max(duration/8, calmShort), calmLong), total: duration}
	// Each stream of events has its own random source, so that a change of one
	// stream does not change the others.
	source := func(stream uint64) *rand.Rand {
		return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // it must be repeatable, not secret
	}
	s.addCalm(source(100))
	for i, worker := range workerNames() {
		s.workers(source(uint64(i)), worker)
	}
	s.postgres(source(10))
	s.backends(source(11))
	s.links(source(12))
	s.stripe(source(13))
	s.stripeKills(source(14))
	slices.SortStableFunc(s.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return s
}

// between draws a duration in a range.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// pick draws an element.
func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// A stream is the random source of a part of the storm, and the shortest and
// longest pause between its events.
type stream struct {
	*rand.Rand
	shortest, longest time.Duration
}

// over adds the events that draw returns, until the storm ends. If wait is set,
// the pause before the next event begins at the end of this one.
func (s *schedule) over(r stream, draw func(at time.Duration) (e event, wait bool)) {
	for at := s.calm + between(r.Rand, 0, r.longest); at < s.total; at += between(r.Rand, r.shortest, r.longest) {
		e, wait := draw(at)
		e.at, e.lasts = at, min(e.lasts, s.total-at)
		if e.kind != "" {
			s.events = append(s.events, e)
		}
		if wait {
			at += e.lasts
		}
	}
}

// workers adds kills, freezes and deployments of one process.
func (s *schedule) workers(r *rand.Rand, name string) {
	s.over(stream{r, 1300 * time.Millisecond, 4500 * time.Millisecond}, func(at time.Duration) (event, bool) {
		e := event{kind: killWorker, target: name}
		switch dice := r.IntN(100); {
		case dice < 33 && at+2*lease < s.total:
			e.kind, e.lasts = freezeWorker, lease+between(r, 300*time.Millisecond, 1500*time.Millisecond)
		case dice < 43 && name == newestAPI:
			e.kind = deployWorker
		}
		return e, true
	})
}

// postgres adds ends of Postgres.
func (s *schedule) postgres(r *rand.Rand) {
	s.over(stream{r, 10 * time.Second, 16 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: pick(r, []kind{killPostgres, killPostgres, killPostmaster, stopPostgres})}, false
	})
}

// backends adds ends of all sessions of a process.
func (s *schedule) backends(r *rand.Rand) {
	s.over(stream{r, 2 * time.Second, 6 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: cutBackends, target: pick(r, workerNames())}, false
	})
}

// links adds toxics, at most one at a time for each link.
func (s *schedule) links(r *rand.Rand) {
	busy := map[string]time.Duration{}
	s.over(stream{r, 600 * time.Millisecond, 2500 * time.Millisecond}, func(at time.Duration) (event, bool) {
		e := event{
			kind: breakLink, target: pick(r, linkNames()), what: pick(r, toxicNames()),
			lasts: between(r, 200*time.Millisecond, 3500*time.Millisecond),
		}
		if busy[e.target] > at {
			return event{}, false
		}
		// Removing a toxic takes time, so there is a second to spare.
		busy[e.target] = at + e.lasts + time.Second
		return e, false
	})
}

// stripe adds faults of Stripe.
func (s *schedule) stripe(r *rand.Rand) {
	s.over(stream{r, 200 * time.Millisecond, 1400 * time.Millisecond}, func(time.Duration) (event, bool) {
		fault := draw(stripeFaults(), func(f stripeFault) int { return f.weight }, r.IntN)
		return event{kind: scriptStripe, what: fault.name, times: 1 + r.IntN(4)}, false
	})
}

// stripeKills adds kills of the fake Stripe.
func (s *schedule) stripeKills(r *rand.Rand) {
	s.over(stream{r, 15 * time.Second, 30 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: killStripe}, false
	})
}

// addCalm adds the events of the calm: first only kills of an api, then only
// outages of Stripe.
func (s *schedule) addCalm(r *rand.Rand) {
	half := s.calm * 3 / 5
	s.events = append(s.events, event{kind: slowStripe, lasts: half})
	for at := 2 * time.Second; at < half-lease; at += between(r, 1200*time.Millisecond, 1800*time.Millisecond) {
		s.events = append(s.events, event{at: at, kind: measuredKill, target: pick(r, apiNames())})
	}
	const lasts = 800 * time.Millisecond
	for at := half + lease; at < s.calm-2*lasts; at += between(r, 3500*time.Millisecond, 4500*time.Millisecond) {
		s.events = append(s.events, event{at: at, kind: outage, lasts: lasts})
	}
}
