package crash

import (
	"flag"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

var (
	full  = flag.Bool("full", false, "run every fault there is, instead of a sample")
	only  = flag.String("case", "", "run this one trial")
	seed  = flag.Uint64("seed", 1, "what the sample is drawn by")
	lanes = flag.Int("lanes", 3*runtime.NumCPU(), "how many trials run at once; most of their time is waiting")
	write = flag.Bool("manifest", false, "write the manifest anew")
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The sizes of the sample.
const (
	sampleSingles = 180
	sampleFirsts  = 20 // singles that pairs begin with
	samplePairs   = 40
	sampleTriples = 12
	fullTriples   = 2_000
)

// TestEveryFault runs the trials. Without -full it runs a sample of them, and
// every setting without faults.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	if *only != "" {
		runOne(t, *only)
		return
	}
	for _, f := range flows {
		t.Run("of the flow "+f.name, func(t *testing.T) {
			t.Parallel()
			newField(t, f).run()
		})
	}
}

// runOne runs one trial and tells its course.
func runOne(t *testing.T, name string) {
	t.Helper()
	one, err := parseTrial(name)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := flowNamed(one.flow)
	p := newReport(t)
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

// A field is where all trials of a flow run.
type field struct {
	t      *testing.T
	flow   flow
	lanes  []*lane
	report *report
}

func newField(t *testing.T, f flow) *field {
	t.Helper()
	x := &field{t: t, flow: f, report: newReport(t)}
	for range *lanes {
		x.lanes = append(x.lanes, newLane(t, f))
	}
	return x
}

// run runs the trials stage by stage: each takes from the one before what there
// is to break.
func (x *field) run() {
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
	checkManifest(x.t, seen)
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
	if !*full {
		second = draw(second, samplePairs, *seed)
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
		cuts.check(x.t, seen)
	}
	x.each("triples", draw(third, triples, *seed), func(*run) {})
}

// each runs trials on all lanes. then is called for one trial at a time.
func (x *field) each(stage string, trials []trial, then func(*run)) {
	x.report.begin(stage, len(trials))
	queue := make(chan trial)
	var group sync.WaitGroup
	var mu sync.Mutex
	for i := range x.lanes {
		group.Go(func() {
			defer func() { // a lane that could not be made anew ends this goroutine
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

// feed hands out the trials, and stops when there is nothing more to learn.
func (x *field) feed(queue chan<- trial, trials []trial) {
	defer close(queue)
	const enough = 100
	for _, one := range trials {
		if x.report.failed() >= enough {
			x.t.Errorf("after %d violations the rest is left out", enough)
			return
		}
		queue <- one
	}
}

// tries is how often a trial is run that came to nothing: because its fault
// never struck, where others were faster, or because the machine stood still.
const tries = 3

// one runs a trial on a lane. A run that came to nothing is judged all the
// same: it was a run. A lane in trouble may still have something in flight, and
// gives way to another; a step that doesn't end twice is no trouble of the
// machine's.
func (x *field) one(lane int, one trial) (r *run, err error) {
	stuck := 0
	for try := 1; ; try++ {
		r, err = x.lanes[lane].perform(x.t.Context(), one)
		var why string
		switch {
		case err != nil:
			why = "trouble of the machinery"
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
		x.report.again(r, err, why)
	}
}
