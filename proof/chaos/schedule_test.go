package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func lines(s schedule) []string {
	var lines []string
	for _, e := range s.events {
		lines = append(lines, e.String())
	}
	return lines
}

// TestTheSameSeedMakesTheSameSchedule: to search for a violation again, the
// faults must come again.
func TestTheSameSeedMakesTheSameSchedule(t *testing.T) {
	t.Parallel()
	first, again := lines(newSchedule(7, 10*time.Minute)), lines(newSchedule(7, 10*time.Minute))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
	if slices.Equal(first, lines(newSchedule(8, 10*time.Minute))) {
		t.Error("another seed makes the same schedule")
	}
}

// TestAFullRunHasEnoughEvents: ten minutes must have so many events of each
// kind, with a tenth to spare for events that find nothing to hit.
func TestAFullRunHasEnoughEvents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := newSchedule(seed, 10*time.Minute)
		counts, before := map[kind]int{}, time.Duration(0)
		for _, e := range s.events {
			counts[e.kind]++
			if e.at < before || e.at+e.lasts > s.total {
				t.Errorf("seed %d: %s is out of order, or outlasts the run", seed, e)
			}
			before = e.at
		}
		for kind, least := range map[kind]int{killWorker: 220, freezeWorker: 110, killPostgres: 10, stopPostgres: 3, deployWorker: 5, outage: 4, measuredKill: 20} {
			if counts[kind] < least {
				t.Errorf("seed %d: %d × %s, want at least %d", seed, counts[kind], kind, least)
			}
		}
		if n := counts[killPostgres] + counts[killPostmaster] + counts[stopPostgres]; n < 30 {
			t.Errorf("seed %d: Postgres ends %d times", seed, n)
		}
	}
}

// TestEveryFaultIsDrawn: a toxic or a Stripe fault that is never drawn proves
// nothing.
func TestEveryFaultIsDrawn(t *testing.T) {
	t.Parallel()
	all := strings.Join(lines(newSchedule(1, fullRun)), "\n") + "\n"
	names := slices.Concat(toxicNames(), linkNames(), workerNames())
	for _, f := range stripeFaults() {
		names = append(names, f.name)
	}
	for _, name := range names {
		if !strings.Contains(all, " "+name+" ") {
			t.Errorf("%s is never drawn", name)
		}
	}
}
