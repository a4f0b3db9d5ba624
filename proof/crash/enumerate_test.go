package crash

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"github.com/rocketrides/rocketrides/proof/wire"
)

// settings returns all ways to run a flow without faults.
func settings(f flow) []setting {
	var all []setting
	for _, s := range f.scripts {
		for _, mode := range modes {
			for _, recovery := range recoveries {
				if f.event && recovery == byOther {
					continue // to an event all apis are alike
				}
				all = append(all, setting{flow: f.name, mode: mode, script: s.name, recovery: recovery})
			}
		}
	}
	return all
}

// singles returns a trial for each fault at each message of a run without
// faults.
func singles(r *run) []trial {
	var all []trial
	for _, m := range r.log {
		for _, fault := range injectionsAt(m, r.script) {
			all = append(all, trial{setting: r.trial.setting, faults: []injection{fault}})
		}
	}
	return all
}

// injectionsAt returns all faults at one message. What a torn message leaves in
// Postgres does not depend on what Stripe does, so only a few scripts tear
// messages to Postgres.
func injectionsAt(m message, s script) []injection {
	injections := wholeAt(m, s, wire.CutBefore, wire.CutAfter, wire.CutSent, wire.HoldBefore, wire.HoldAfter)
	if m.wire == pgWire && !s.torn {
		return injections
	}
	for part := 1; part < m.frames; part++ {
		injections = append(injections, injection{wire: m.wire, n: m.n, kind: wire.CutPart, part: part})
	}
	for part := 1; part < m.answer; part++ {
		injections = append(injections, injection{wire: m.wire, n: m.n, kind: wire.CutAnswer, part: part})
	}
	return injections
}

// wholeAt returns the faults of some kinds at one message that do not tear it
// or its answer. The opening of a connection can only be refused or be late.
func wholeAt(m message, s script, kinds ...wire.Kind) []injection {
	var injections []injection
	for _, kind := range kinds {
		fault := injection{wire: m.wire, n: m.n, kind: kind}
		if m.summary == connecting && kind != wire.CutBefore && kind != wire.HoldBefore || fault.holds() && s.windowOver {
			continue
		}
		injections = append(injections, fault)
	}
	return injections
}

// The kinds of faults in pairs and triples, and the kinds of the first one. A
// torn message leaves behind the same as one of these.
var (
	pairKinds  = []wire.Kind{wire.CutBefore, wire.CutAfter}
	firstKinds = append(pairKinds, wire.HoldAfter)
)

// happy is the script whose faults are enumerated in pairs. failing is the
// script in which a worker is held with an answer that makes it release its
// key.
const (
	happy   = "happy"
	failing = "503"
)

// paired reports whether the fault of a trial is the first one of pairs.
func paired(t trial) bool {
	first := t.faults[0]
	return t.script == happy && slices.Contains(firstKinds, first.kind) ||
		t.script == failing && first.kind == wire.HoldAfter && first.wire == stripeWire
}

// followers returns the trials that add one more fault to those of a run, at
// every message that came after them.
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
		kinds = firstKinds // the worker that takes over from a held one may be held, too
	}
	var all []trial
	for _, m := range r.log[last+1:] {
		for _, fault := range wholeAt(m, r.script, kinds...) {
			faults := append(append([]injection(nil), r.trial.faults...), fault)
			all = append(all, trial{setting: r.trial.setting, faults: faults})
		}
	}
	return all
}

// chance returns the source of the random choices about a trial.
func chance(seed uint64, t trial) *rand.Rand {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(t.String()))
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// draw returns n of the trials, chosen by seed, or all if there are not more.
func draw(trials []trial, n int, seed uint64) []trial {
	random := rand.New(rand.NewPCG(seed, uint64(len(trials))))
	random.Shuffle(len(trials), func(i, j int) { trials[i], trials[j] = trials[j], trials[i] })
	return trials[:min(n, len(trials))]
}
