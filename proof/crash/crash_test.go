package crash

import (
	"flag"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

var (
	full  = flag.Bool("full", false, "run every fault instead of a sample")
	only  = flag.String("case", "", "run only this trial")
	of    = flag.String("flow", "", "run only the trials of this flow")
	seed  = flag.Uint64("seed", 1, "the seed of the sample")
	lanes = flag.Int("lanes", 3*runtime.NumCPU(), "how many trials run at once; they wait most of the time")
	write = flag.Bool("manifest", false, "rewrite the manifest")
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The sizes of the sample.
const (
	sampleSingles = 180
	sampleFirsts  = 20 // singles that pairs begin with
	samplePairs   = 40
	sampleTriples = 12
	fullTriples   = 2_000
	// Some flows send several times as many messages as a ride needs, so only
	// some of their pairs are run.
	fullPairs = 3_000
)

// TestEveryFault runs the trials. Without -full it runs a sample of them, and
// every setting without faults.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	if *only != "" {
		runOne(t, *only)
		return
	}
	if _, ok := flowNamed(*of); *of != "" && !ok {
		t.Fatalf("there is no flow %q", *of)
	}
	for _, f := range flows {
		if *of != "" && *of != f.name {
			continue
		}
		t.Run("of the flow "+f.name, func(t *testing.T) {
			t.Parallel()
			newEnumeration(t, f).run()
		})
	}
}

// runOne runs one trial and logs its course.
func runOne(t *testing.T, name string) {
	t.Helper()
	one, err := parseTrial(name)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := flowNamed(one.flow)
	p := newReport(t, f.checks)
	r, err := newLane(t, f).perform(t.Context(), one)
	if r == nil {
		t.Fatal(err)
	}
	for i, m := range r.log {
		mark := ""
		for j, at := range r.struck {
			if at == i {
				mark = "  <- " + one.faults[j].String()
			}
		}
		t.Logf("%s.%d %s: %s (%d frames, %d in the answer)%s", m.wire, m.n, m.process, m.summary, m.frames, m.answer, mark)
	}
	for _, reply := range r.replies {
		t.Logf("a client was told %d %s", reply.status, reply.code)
	}
	t.Logf("came to rest as %s", r.atRest.end())
	p.add(r, err)
}

// An enumeration runs all trials of a flow.
type enumeration struct {
	t      *testing.T
	flow   flow
	lanes  []*lane
	report *report
	// ended is set if trials were skipped.
	ended bool
}

func newEnumeration(t *testing.T, f flow) *enumeration {
	t.Helper()
	x := &enumeration{t: t, flow: f, report: newReport(t, f.checks)}
	for range *lanes {
		x.lanes = append(x.lanes, newLane(t, f))
	}
	return x
}

// run runs the trials stage by stage. Each stage takes its faults from the
// messages that the runs of the stage before have recorded.
func (x *enumeration) run() {
	defer x.report.watch()()
	defer func() { x.report.print(*seed) }()
	var bare []trial
	for _, s := range settings(x.flow) {
		bare = append(bare, trial{setting: s})
	}
	var seen []*run
	var first, second, third []trial
	x.each("without faults", bare, func(r *run) {
		seen = append(seen, r)
		first = append(first, singles(r)...)
	})
	checkManifest(x.t, x.flow, seen)
	sortTrials(first)
	if !*full {
		begin := slices.DeleteFunc(slices.Clone(first), func(one trial) bool { return !paired(one) })
		first = append(draw(first, sampleSingles, *seed), draw(begin, sampleFirsts, *seed)...)
	}
	cuts := coverage{}
	x.each("single faults", first, func(r *run) {
		cuts.add(r)
		if paired(r.trial) {
			second = append(second, followers(r)...)
		}
	})
	sortTrials(second)
	switch {
	case !*full:
		second = draw(second, samplePairs, *seed)
	case x.flow.long:
		second = draw(second, fullPairs, *seed)
	}
	x.each("pairs", second, func(r *run) {
		if next := followers(r); len(next) > 0 {
			third = append(third, next[chance(*seed, r.trial).IntN(len(next))])
		}
	})
	sortTrials(third)
	triples := sampleTriples
	if *full {
		triples = fullTriples
	}
	if *full && !x.ended {
		cuts.check(x.t, seen)
	}
	x.each("triples", draw(third, triples, *seed), func(*run) {})
}

// each runs trials on all lanes. It calls then for each run that something may
// be learnt from, one at a time.
func (x *enumeration) each(stage string, trials []trial, then func(*run)) {
	x.report.begin(stage, len(trials))
	queue := make(chan trial)
	var group sync.WaitGroup
	var mu sync.Mutex
	for i := range x.lanes {
		group.Go(func() {
			// If a lane cannot be replaced, this goroutine ends early. The
			// queue must be emptied all the same.
			defer func() {
				for range queue {
				}
			}()
			for one := range queue {
				r, err := x.one(i, one)
				if r == nil {
					x.t.Errorf("starting %s: %v", one, err)
					continue
				}
				x.report.add(r, err)
				if err == nil && !r.starved() {
					mu.Lock()
					then(r)
					mu.Unlock()
				}
			}
		})
	}
	x.feed(queue, trials)
	group.Wait()
	x.t.Log(x.report.line())
}

// feed sends the trials to the queue. It stops after so many violations that
// more would show nothing new, and shortly before package testing would end the
// run without a report.
func (x *enumeration) feed(queue chan<- trial, trials []trial) {
	defer close(queue)
	const enough = 100
	deadline, limited := x.t.Deadline()
	for i, one := range trials {
		switch {
		case x.report.failed() >= enough:
			x.t.Errorf("after %d violations the remaining %d trials are skipped", enough, len(trials)-i)
			x.ended = true
			return
		case limited && time.Until(deadline) < 2*patience:
			x.t.Errorf("the time is up: the remaining %d trials are skipped", len(trials)-i)
			x.ended = true
			return
		}
		queue <- one
	}
}

// tries is how often a trial is run if it shows nothing: its fault never struck
// because another worker was faster, or the machine was too busy. Of a thousand trials on a busy
// machine, one is starved three times in a row by chance.
const tries = 8

// one runs a trial on a lane, again if it shows nothing. Every run is judged.
// If the harness has an error, something may still be in flight on the lane, so
// the lane is replaced. A step that does not end is tried again once, because a
// busy machine may be the reason the first time.
func (x *enumeration) one(lane int, one trial) (r *run, err error) {
	stuck := 0
	for try := 1; ; try++ {
		r, err = x.lanes[lane].perform(x.t.Context(), one)
		var why string
		switch {
		case err != nil:
			why = "an error of the harness"
			x.t.Logf("%s: %v", one, err)
			x.lanes[lane] = newLane(x.t, x.flow)
		case r.missed() != "":
			why = "its fault never struck"
		case r.starved():
			why = "struck by the machine's load"
		default:
			return r, nil
		}
		if r != nil && r.stuck {
			stuck++
		}
		if try == tries || stuck > 1 {
			return r, err
		}
		x.report.repeat(r, err, why)
	}
}
