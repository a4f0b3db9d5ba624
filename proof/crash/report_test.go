package crash

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/proof/invariants"
)

// A report counts the results of all trials so far. It is safe for concurrent
// use.
type report struct {
	t      *testing.T
	list   invariants.List
	checks []check
	began  time.Time

	mu       sync.Mutex
	stage    string
	total    int // of the stage
	done     int // of the stage
	all      int
	since    time.Time
	counts   map[string]map[string]int // by what is counted, and by its value
	seen     map[string]int            // by invariant: the trials that it applied to
	broken   map[string]int            // by invariant: the trials that broke it
	failures int
}

func newReport(t *testing.T, checks []check) *report {
	t.Helper()
	list, err := invariants.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	return &report{
		t: t, list: list, checks: checks, began: time.Now(), seen: map[string]int{}, broken: map[string]int{},
		counts: map[string]map[string]int{"stage": {}, "fault": {}, "wire": {}, "recovery": {}, "script": {}, "end": {}, "mode": {}, "repeated": {}},
	}
}

func (p *report) begin(stage string, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stage, p.total, p.done, p.since = stage, total, 0, time.Now()
}

// add judges a run, and counts its trial.
func (p *report) add(r *run, err error) {
	violations, seen, broken := p.judge(r, err)
	if err == nil && r.starved() {
		violations, broken[harness] = append(violations, harness+": the machine's load struck each of "+strconv.Itoa(tries)+" runs like a fault"), true
	}
	if missed := r.missed(); err == nil && missed != "" && !r.trial.races() {
		violations, broken[harness] = append(violations, harness+": "+missed), true
	}
	p.count(r, seen, broken, len(violations) > 0)
	p.fail(r, violations)
}

// repeat judges a run that shows nothing. Its trial is run again, because of
// why.
func (p *report) repeat(r *run, err error, why string) {
	var violations []string
	if err == nil {
		violations, _, _ = p.judge(r, nil)
	}
	p.mu.Lock()
	p.tally("repeated", why)
	if len(violations) > 0 {
		p.failures++
	}
	p.mu.Unlock()
	p.fail(r, violations)
}

// fail fails the test if there are violations, and logs how to repeat the
// trial.
func (p *report) fail(r *run, violations []string) {
	if len(violations) > 0 {
		p.t.Errorf("%s\n  replay: %s", strings.Join(violations, "\n  "), replay(r.trial))
	}
}

// harness stands for what the trials run on, where an invariant would stand.
const harness = "the harness"

// judge checks the invariants. It returns the violations, and for each
// invariant whether it applied to the run and whether the run broke it.
func (p *report) judge(r *run, err error) (violations []string, seen, broken map[string]bool) {
	seen, broken = map[string]bool{}, map[string]bool{}
	if err != nil {
		broken[harness] = true
		return []string{harness + ": " + err.Error()}, seen, broken
	}
	e := r.evidence()
	for _, c := range r.flow.checks {
		applies, wrong := c.run(e)
		seen[c.invariant], broken[c.invariant] = applies, len(wrong) > 0
		for _, text := range wrong {
			violations = append(violations, c.invariant+" ("+p.list[c.invariant]+"): "+text)
		}
	}
	return violations, seen, broken
}

// replay returns the command that repeats a trial.
func replay(t trial) string {
	return fmt.Sprintf("go test ./proof/crash -run TestEveryFault -count=1 -v -args -case '%s'", t)
}

// missed names a fault that never struck, or returns "".
func (r *run) missed() string {
	for i, at := range r.struck {
		if at < 0 {
			return fmt.Sprintf("the fault %s never struck: there were %v messages", r.trial.faults[i], r.counts)
		}
	}
	return ""
}

// starved reports whether the machine's load struck the run like a fault of its
// own: Postgres did not answer in time, or it ended the session of a worker
// that nobody held but that got no processor time in a transaction for as long
// as idleInTransaction. Such a run sends messages that no other run of the
// trial sends, so nothing may be learnt from it.
func (r *run) starved() bool {
	late := len(r.trial.faults) == 0 && slices.ContainsFunc(r.replies, func(got reply) bool { return got.code == "unavailable" })
	return late || r.idledOut > r.heldOpen
}

// count counts a trial.
func (p *report) count(r *run, seen, broken map[string]bool, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.all++
	if failed {
		p.failures++
	}
	p.tally("stage", p.stage)
	p.tally("mode", r.trial.mode)
	p.tally("recovery", r.trial.recovery)
	p.tally("script", r.trial.script)
	p.tally("end", string(r.atRest.end()))
	for i, fault := range r.trial.faults {
		if r.struck[i] < 0 {
			p.tally("fault", "never struck")
			continue
		}
		p.tally("fault", fault.kind.String())
		p.tally("wire", fault.wire)
	}
	for name := range seen {
		if seen[name] {
			p.seen[name]++
		}
	}
	for name := range broken {
		if broken[name] {
			p.broken[name]++
		}
	}
}

// tally counts one of what, with a value.
func (p *report) tally(what, value string) { p.counts[what][value]++ }

// watch logs the progress every few seconds, until stop is called.
func (p *report) watch() (stop func()) {
	const often = 5 * time.Second
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(often)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.t.Log(p.line())
			case <-done:
				return
			}
		}
	})
	return func() { close(done); group.Wait() }
}

// line returns the progress in one line.
func (p *report) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate := float64(p.done) / time.Since(p.since).Seconds()
	return fmt.Sprintf("%4.0f s  %s %d/%d  %.0f/s  %d in all, %d violations",
		time.Since(p.began).Seconds(), p.stage, p.done, p.total, rate, p.all, p.failures)
}

// print logs all counts.
func (p *report) print(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var text strings.Builder
	for _, what := range []string{"stage", "wire", "fault", "mode", "recovery", "script", "end", "repeated"} {
		counts := p.counts[what]
		fmt.Fprintf(&text, "by %s:\n", what)
		for _, value := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) }) {
			fmt.Fprintf(&text, "  %7d %s\n", counts[value], value)
		}
	}
	fmt.Fprintf(&text, "invariants (trials that each applied to, and trials that broke it):\n")
	for _, c := range p.checks {
		sentence := p.list[c.invariant]
		fmt.Fprintf(&text, "  %7d %5d  %-4s %s\n", p.seen[c.invariant], p.broken[c.invariant], c.invariant, sentence)
		if p.seen[c.invariant] == 0 {
			p.t.Errorf("%s applied to no trial (%s)", c.invariant, sentence)
		}
	}
	fmt.Fprintf(&text, "%d trials in %s, seed %d: %d violations", p.all, time.Since(p.began).Round(time.Second), seed, p.failures)
	p.t.Log(text.String())
}

// failed returns how many runs broke an invariant.
func (p *report) failed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failures
}
