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
	// killWorker is kill -9; the process is started again at once.
	killWorker kind = "kill"
	// freezeWorker is SIGSTOP, and SIGCONT when its lease is long over.
	freezeWorker kind = "freeze"
	// deployWorker ends a process by SIGTERM and starts it with the other list
	// of flows.
	deployWorker kind = "deploy"
	// killPostgres is kill -9 of all of Postgres, killPostmaster that of its
	// first process alone, whose children then end by themselves, and
	// stopPostgres its immediate shutdown.
	killPostgres   kind = "pg-kill"
	killPostmaster kind = "pg-orphan"
	stopPostgres   kind = "pg-stop"
	// cutBackends is pg_terminate_backend of all sessions of one process.
	cutBackends kind = "pg-cut"
	// breakLink puts a toxic on a link, for a while.
	breakLink kind = "link"
	// scriptStripe has the fake Stripe misbehave a few times.
	scriptStripe kind = "stripe"
	// killStripe is kill -9 of the fake Stripe.
	killStripe kind = "stripe-kill"
	// slowStripe has every charge take a while, so that a kill finds many of
	// them in flight.
	slowStripe kind = "stripe-slow"
	// measuredKill is a kill of an api in the calm, from which the figures
	// come.
	measuredKill kind = "measured-kill"
	// outage has Stripe refuse everything for a while, in the calm, for the
	// other figure.
	outage kind = "outage"
)

// An event is one line of a schedule.
type event struct {
	at     time.Duration // since the start
	kind   kind
	target string        // a worker or a link; empty where there is but one
	what   string        // the toxic or the Stripe fault
	times  int           // how often a Stripe fault hits
	lasts  time.Duration // 0 for what happens in a moment
}

// String is the event as a line for people.
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

// A schedule is all that the nemesis will do, in order: first the calm, in
// which figures are taken, then the storm.
type schedule struct {
	events []event
	// calm is when the calm ends and the storm begins.
	calm time.Duration
	// total is when all faults end.
	total time.Duration
}

// calmShort and calmLong are the shortest and the longest calm.
const calmShort, calmLong = 20 * time.Second, 75 * time.Second

// shortestRun has room for the shortest calm and a storm as long.
const shortestRun = 2 * calmShort

// newSchedule draws a schedule: a pure function of the seed and the duration,
// which is at least shortestRun. The first eighth of it (20 to 75 seconds) is
// the calm.
func newSchedule(seed uint64, duration time.Duration) schedule {
	s := schedule{calm: min(max(duration/8, calmShort), calmLong), total: duration}
	// Each stream of events has a random source of its own: a change to one
	// leaves the others as they were.
	source := func(stream uint64) *rand.Rand {
		return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // it must repeat, not surprise
	}
	s.quiet(source(100))
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

// between draws a duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// A stream is what a part of the storm draws from: events come with a pause
// from shortest to longest in between.
type stream struct {
	*rand.Rand
	shortest, longest time.Duration
}

// over has draw make an event, again and again, until the storm ends. The next
// one comes a pause after the end of the one before, if it is to wait for that.
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

// workers kills, freezes and replaces one process again and again.
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

func (s *schedule) postgres(r *rand.Rand) {
	s.over(stream{r, 10 * time.Second, 16 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: pick(r, []kind{killPostgres, killPostgres, killPostmaster, stopPostgres})}, false
	})
}

func (s *schedule) backends(r *rand.Rand) {
	s.over(stream{r, 2 * time.Second, 6 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: cutBackends, target: pick(r, workerNames())}, false
	})
}

// links breaks links, each by one toxic at a time.
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
		// Some time to spare, since taking a toxic off takes some.
		busy[e.target] = at + e.lasts + time.Second
		return e, false
	})
}

func (s *schedule) stripe(r *rand.Rand) {
	s.over(stream{r, 200 * time.Millisecond, 1400 * time.Millisecond}, func(time.Duration) (event, bool) {
		return event{kind: scriptStripe, what: drawStripeFault(r), times: 1 + r.IntN(4)}, false
	})
}

func (s *schedule) stripeKills(r *rand.Rand) {
	s.over(stream{r, 15 * time.Second, 30 * time.Second}, func(time.Duration) (event, bool) {
		return event{kind: killStripe}, false
	})
}

// quiet is the calm: kills of an api and nothing else, then outages of Stripe
// and nothing else.
func (s *schedule) quiet(r *rand.Rand) {
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
