package crash

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"github.com/rocketrides/rocketrides/proof/wire"
)

// settings are all ways to run a flow without faults.
func settings(f flow) []setting {
	var all []setting
	for _, s := range f.scripts {
		for _, mode := range modes {
			for _, recovery := range recoveries {
				all = append(all, setting{flow: f.name, mode: mode, script: s.name, recovery: recovery})
			}
		}
	}
	return all
}

// singles are all faults at the messages that a run without faults has seen.
func singles(r *run) []trial {
	var all []trial
	for _, m := range r.log {
		for _, fault := range placesAt(m, r.script) {
			all = append(all, trial{setting: r.trial.setting, faults: []place{fault}})
		}
	}
	return all
}

// placesAt are all faults at one message. What a torn message leaves in
// Postgres doesn't depend on what Stripe does, so few scripts need to tear
// those.
func placesAt(m message, s script) []place {
	places := wholeAt(m, s, wire.CutBefore, wire.CutAfter, wire.CutSent, wire.HoldBefore, wire.HoldAfter)
	if m.wire == pgWire && !s.torn {
		return places
	}
	for part := 1; part < m.frames; part++ {
		places = append(places, place{wire: m.wire, n: m.n, kind: wire.CutPart, part: part})
	}
	for part := 1; part < m.answer; part++ {
		places = append(places, place{wire: m.wire, n: m.n, kind: wire.CutAnswer, part: part})
	}
	return places
}

// wholeAt are the faults of some kinds at one message that leave it and its
// answer whole. A connection that is opened can only be refused or be late.
func wholeAt(m message, s script, kinds ...wire.Kind) []place {
	var places []place
	for _, kind := range kinds {
		fault := place{wire: m.wire, n: m.n, kind: kind}
		if m.summary == connecting && kind != wire.CutBefore && kind != wire.HoldBefore || fault.holds() && s.windowOver {
			continue
		}
		places = append(places, fault)
	}
	return places
}

// The faults in pairs and triples, and what the first may be besides. A torn
// message leaves behind what one of these does.
var (
	pairKinds  = []wire.Kind{wire.CutBefore, wire.CutAfter}
	firstKinds = append(pairKinds, wire.HoldAfter)
)

// happy is the script whose faults are enumerated in pairs, and failing the one
// in which a worker sleeps over an answer that makes it give its key back.
const (
	happy   = "happy"
	failing = "503"
)

// paired tells whether a single fault is the first of pairs.
func paired(t trial) bool {
	first := t.faults[0]
	return t.script == happy && slices.Contains(firstKinds, first.kind) ||
		t.script == failing && first.kind == wire.HoldAfter && first.wire == stripeWire
}

// followers are the trials that add one fault to those of a run, at every
// message that came after them.
func followers(r *run) []trial {
	last := -1
	for _, at := range r.struck {
		if at < 0 {
			return nil
		}
		last = max(last, at)
	}
	kinds := pairKinds
	if r.trial.faults[len(r.trial.faults)-1].holds() {
		kinds = firstKinds // who takes the place of one that sleeps may fall asleep, too
	}
	var all []trial
	for _, m := range r.log[last+1:] {
		for _, fault := range wholeAt(m, r.script, kinds...) {
			faults := append(append([]place(nil), r.trial.faults...), fault)
			all = append(all, trial{setting: r.trial.setting, faults: faults})
		}
	}
	return all
}

// chance is the source of what a seed decides about a trial.
func chance(seed uint64, t trial) *rand.Rand {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(t.String()))
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// draw picks n of the trials by seed, or all where there are no more.
func draw(trials []trial, n int, seed uint64) []trial {
	random := rand.New(rand.NewPCG(seed, uint64(len(trials))))
	random.Shuffle(len(trials), func(i, j int) { trials[i], trials[j] = trials[j], trials[i] })
	return trials[:min(n, len(trials))]
}
