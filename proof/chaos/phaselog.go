package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"time"
)

// logChecks checks the log of the committed changes of each key.
func logChecks(f *facts, lives map[string][]life) []check {
	return []check{paths(f), holders(f), versions(f, lives)}
}

// paths checks that recovery points follow the flow, that epochs never fall,
// and that nothing changes a finished key (I7, I8).
func paths(f *facts) check {
	c := newCheck("the changes of each key are a path of its flow", "I7", "I8")
	for id, changes := range f.changesOf() {
		points := []string{"", "started", "ride_created", "charge_created", "finished"}
		key, _ := f.key(id)
		if key.Cancels != nil {
			points = []string{"", "started", "refund_created", "finished"}
		}
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
		if points[at] != key.Point {
			c.breaks("%s stands at %q, and its changes end at %q", id, key.Point, points[at])
		}
	}
	return c
}

// holders checks that while a process holds a key, another process changes it
// only by claiming it, which begins a new epoch (I7).
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

// deref returns what p points at, or the zero value if p is nil.
func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// versions checks that a release that does not know the flow of a key never
// changes the key (I26).
func versions(f *facts, lives map[string][]life) check {
	c := newCheck("no release changes keys of a flow that it does not know", "I26")
	for _, change := range f.changes {
		if f.keys[change.id()].FlowVersion < 2 {
			continue
		}
		c.looked++
		ran := slices.ContainsFunc(lives[change.Who], func(l life) bool {
			// A COMMIT that a killed process had sent may take effect a moment
			// after its end.
			const late = time.Second
			return l.release == next && !l.from.After(change.At) && (l.to.IsZero() || l.to.Add(late).After(change.At))
		})
		if !ran {
			c.breaks("%s belongs to version 2, and %s changed it at %s", change.id(), change.Who, change.At)
		}
	}
	return c
}

// alarms checks Postgres's log for errors of the tripwires (I7, I8, I22).
func alarms(log string) (check, error) {
	c := newCheck("no tripwire in the database has fired", "I7", "I8", "I22")
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

// A pastEvent is an event that has happened, in wall-clock time.
type pastEvent struct {
	kind     kind
	target   string
	from, to time.Time
}

// recoveries are the times that abandoned keys took until they were finished:
// since their worker was killed, and since their lease ended.
type recoveries struct {
	sinceKill, sinceLease []time.Duration
}

// abandoned returns the recoveries of the keys that a killed api held and that
// no client used again.
func abandoned(marks []pastEvent, ops map[rideKey][]*op, changes map[rideKey][]change) recoveries {
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

// heldAt reports whether a process held the key at a time and never changed it
// after that. It returns when the lease of that process began, and when the key
// was finished.
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
		return held, end, false // a COMMIT was on its way
	}
	final := changes[len(changes)-1]
	return changes[last].At, final.At, final.To == "finished"
}

// askedAfter reports whether a client sent a hail after a time.
func askedAfter(ops []*op, at time.Time) bool {
	return slices.ContainsFunc(ops, func(o *op) bool { return !o.Look && o.At.After(at) })
}

// released returns how long after the end of an outage the keys were finished
// that were released during it and that no client used again.
func released(outages []pastEvent, ops map[rideKey][]*op, changes map[rideKey][]change) []time.Duration {
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

// quantile returns the least duration that so many percent of those measured
// don't exceed, or 0 if there are none.
func quantile(measured []time.Duration, percent int) time.Duration {
	if len(measured) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(measured))
	return sorted[(len(sorted)*percent+99)/100-1].Round(time.Millisecond)
}
