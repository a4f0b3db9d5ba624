package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"time"
)

// logChecks are the rules of the engine, as the log of every committed change
// of a key shows them.
func logChecks(f *facts, lives map[string][]life) []check {
	return []check{paths(f), holders(f), versions(f, lives)}
}

// paths: points follow the flow, epochs never fall, and nothing happens after
// the end (I7, I8).
func paths(f *facts) check {
	c := newCheck("the changes of each key are a path of its flow", "I7", "I8")
	points := []string{"", "started", "ride_created", "charge_created", "finished"}
	for id, changes := range f.changesOf() {
		at, epoch := 0, int64(0)
		for _, change := range changes {
			c.looked++
			from, to := slices.Index(points, deref(change.From)), slices.Index(points, change.To)
			if from != at || to < from || from == len(points)-1 || change.Epoch < epoch {
				c.breaks("%s went from %q to %q under epoch %d, and stood at %q under %d",
					id, deref(change.From), change.To, change.Epoch, points[at], epoch)
				break
			}
			at, epoch = to, change.Epoch
		}
		if key := f.keys[id]; points[at] != key.Point {
			c.breaks("%s stands at %q, and its changes end at %q", id, key.Point, points[at])
		}
	}
	return c
}

// holders: while a process holds a key, nobody else changes it but by taking it
// over, which begins another epoch (I7).
func holders(f *facts) check {
	c := newCheck("only the holder of a key changes it", "I7")
	for id, changes := range f.changesOf() {
		holder, epoch := "", int64(0)
		for _, change := range changes {
			c.looked++
			taken := change.Held && change.Epoch > epoch
			if change.WasHeld && !taken && change.Who != holder {
				c.breaks("%s was held by %s, and %s moved it to %q under epoch %d", id, holder, change.Who, change.To, change.Epoch)
			}
			if taken {
				holder = change.Who
			}
			epoch = change.Epoch
		}
	}
	return c
}

// deref is what p points at, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// versions: a release that doesn't know a key's flow never touches the key
// (I26).
func versions(f *facts, lives map[string][]life) check {
	c := newCheck("no release touches a flow that it doesn't know", "I26")
	for _, change := range f.changes {
		if f.keys[change.id()].FlowVersion < 2 {
			continue
		}
		c.looked++
		ran := slices.ContainsFunc(lives[change.Who], func(l life) bool {
			// A process that was killed may be outlived, by a moment, by a
			// COMMIT that it had sent.
			const dying = time.Second
			return l.release == next && !l.from.After(change.At) && (l.to.IsZero() || l.to.Add(dying).After(change.At))
		})
		if !ran {
			c.breaks("%s belongs to version 2, and %s changed it at %s", change.id(), change.Who, change.At)
		}
	}
	return c
}

// alarms: no tripwire in the database was touched.
func alarms(log string) (check, error) {
	c := newCheck("no tripwire in the database was touched", "I7", "I8", "I22")
	file, err := os.Open(log)
	if err != nil {
		return c, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c.looked++
		if strings.Contains(lines.Text(), " RR00") {
			c.breaks("%s", lines.Text())
		}
	}
	return c, lines.Err()
}

// A mark is an event of the nemesis's, as it happened, by the wall's clock.
type mark struct {
	kind     kind
	target   string
	from, to time.Time
}

// recoveries are how long abandoned keys took to their end.
type recoveries struct {
	sinceKill, sinceLease []time.Duration
}

// abandoned finds the keys that a killed api held, and that no client asked for
// again: how long after the kill, and after the end of the lease, each was
// finished.
func abandoned(marks []mark, ops map[rideKey][]*op, changes map[rideKey][]change) recoveries {
	var r recoveries
	for id, all := range changes {
		for _, m := range marks {
			held, end, ok := heldAt(all, m.target, m.from)
			if !ok || askedAfter(ops[id], m.from) {
				continue
			}
			r.sinceKill = append(r.sinceKill, end.Sub(m.from))
			r.sinceLease = append(r.sinceLease, end.Sub(held.Add(lease)))
		}
	}
	return r
}

// heldAt tells whether who held the key at a moment and never went on: when its
// lease began, and when the key came to its end.
func heldAt(changes []change, who string, at time.Time) (held, end time.Time, ok bool) {
	last := -1
	for i, c := range changes {
		if c.At.Before(at) {
			last = i
		}
	}
	if last < 0 || last == len(changes)-1 || !changes[last].Held || changes[last].Who != who {
		return held, end, false
	}
	if c := changes[last+1]; c.Epoch == changes[last].Epoch {
		return held, end, false // a COMMIT that was on its way
	}
	final := changes[len(changes)-1]
	return changes[last].At, final.At, final.To == "finished"
}

func askedAfter(ops []*op, at time.Time) bool {
	return slices.ContainsFunc(ops, func(o *op) bool { return !o.Look && o.At.After(at) })
}

// released finds the keys that were given back during an outage, and that no
// client asked for again: how long after the outage's end each was finished.
func released(outages []mark, ops map[rideKey][]*op, changes map[rideKey][]change) []time.Duration {
	var took []time.Duration
	for id, all := range changes {
		for _, m := range outages {
			given := slices.ContainsFunc(all, func(c change) bool {
				return c.WasHeld && !c.Held && c.To != "finished" && c.At.After(m.from) && c.At.Before(m.to)
			})
			final := all[len(all)-1]
			if given && final.To == "finished" && !askedAfter(ops[id], m.from) {
				took = append(took, max(0, final.At.Sub(m.to)))
			}
		}
	}
	return took
}

// quantile returns the q-quantile of what was measured; 0 of nothing.
func quantile(measured []time.Duration, q float64) time.Duration {
	if len(measured) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(measured))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(time.Millisecond)
}
