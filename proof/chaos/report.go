package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report prints how much was done, which shows what the verdict is worth.
func (r *run) report(f *facts, ops []*op) {
	fmt.Fprintf(r.out, "\n%d requests for %d keys, %d sends to Stripe, %d changes of keys\n", len(ops), len(f.keys)+len(f.cancels), len(f.sends), len(f.changes))
	fmt.Fprintf(r.out, "%d kills of processes, %d of Postgres (%d of them immediate stops), %d deployments, %d times all sessions cut\n",
		r.kills(), r.postgresKills(), r.nemesis.tally(stopPostgres), r.nemesis.tally(deployWorker), r.nemesis.tally(cutBackends))
	fmt.Fprintf(r.out, "%d workers frozen past their leases; %d times a worker was fenced out and wrote nothing\n",
		r.nemesis.tally(freezeWorker), r.system.fenced())
	fmt.Fprintf(r.out, "answers: %s\n", tallied(answersBy(ops)))
	fmt.Fprintf(r.out, "scripted: %s\n", tallied(r.nemesis.faults))
	fmt.Fprintf(r.out, "hails:   %s\n", tallied(ends(f.keys)))
	fmt.Fprintf(r.out, "cancels: %s\n", tallied(ends(f.cancels)))
	fmt.Fprintf(r.out, "events:  %s\n", tallied(outcomes(f)))
}

// answersBy counts answers by their status and code.
func answersBy(ops []*op) map[string]int {
	counts := map[string]int{}
	for _, o := range ops {
		switch {
		case o.Status == 0:
			counts["none"]++
		case o.Look && o.Status == http.StatusOK:
			counts["look"]++
		case o.Code != "":
			counts[fmt.Sprint(o.Status, " ", o.Code)]++
		default:
			counts[strconv.Itoa(o.Status)]++
		}
	}
	return counts
}

// ends counts keys by how they ended, and those of the next release.
func ends(keys map[rideKey]keyRow) map[string]int {
	counts := map[string]int{}
	for _, key := range keys {
		switch {
		case key.Status != nil:
			counts[strconv.Itoa(*key.Status)]++
		case key.Parked != nil:
			counts["parked "+*key.Parked]++
		default:
			counts["unfinished"]++
		}
		if key.FlowVersion > 1 {
			counts["of the next release"]++
		}
	}
	return counts
}

// tallied returns counts in one line.
func tallied(counts map[string]int) string {
	var text []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		text = append(text, fmt.Sprintf("%s: %d", name, counts[name]))
	}
	return strings.Join(text, "; ")
}

// figures prints how fast abandoned and released keys were finished, and checks
// that against the goals. The figures of the storm are only printed, because
// there the processes that recover a key are killed as well.
func (r *run) figures(f *facts, ops []*op) []check {
	keys, changes := byKey(ops), f.changesOf()
	quiet := abandoned(r.nemesis.eventsOf(measuredKill), keys, changes)
	storm := abandoned(r.nemesis.eventsOf(killWorker), keys, changes)
	given := released(r.nemesis.eventsOf(outage), keys, changes)
	fmt.Fprintf(r.out, "\n%-50s %6s %9s %9s %9s\n", "KEYS THAT NO CLIENT USED AGAIN", "COUNT", "P50", "P99", "GOAL")
	for _, line := range []struct {
		name string
		took []time.Duration
		goal time.Duration
	}{
		{"abandoned by kill -9 of an api, from the lease's end", quiet.sinceLease, 0},
		{"abandoned by kill -9 of an api, from the kill", quiet.sinceKill, goalAbandoned},
		{"released in an outage, from its end", given, goalReleased},
		{"abandoned by kill -9 in the storm, from the kill", storm.sinceKill, 0},
	} {
		p50, p99, goal := "-", "-", "-"
		if len(line.took) > 0 {
			p50, p99 = quantile(line.took, 50).String(), quantile(line.took, 99).String()
		}
		if line.goal > 0 {
			goal = line.goal.String()
		}
		fmt.Fprintf(r.out, "%-50s %6d %9s %9s %9s\n", line.name, len(line.took), p50, p99, goal)
	}
	return []check{
		inGoal("p99 of abandoned keys is within lease + 2s", quiet.sinceKill, goalAbandoned),
		inGoal("p99 of released keys is within 2s", given, goalReleased),
	}
}

// inGoal checks the 99th percentile of durations.
func inGoal(name string, took []time.Duration, goal time.Duration) check {
	c := newCheck(name)
	c.looked = len(took)
	if p99 := quantile(took, 99); p99 > goal {
		c.breaks("it is %s", p99)
	}
	return c
}
