package crash

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/wire"
)

// manifestFile lists every message of every setting. It shows in a review what a
// change does to the wires.
const manifestFile = "testdata/manifest.txt"

// checkManifest compares the messages of the runs without faults with those that
// are listed.
func checkManifest(t *testing.T, seen []*run) {
	t.Helper()
	var text strings.Builder
	slices.SortFunc(seen, func(a, b *run) int { return cmp.Compare(a.trial.String(), b.trial.String()) })
	for _, r := range seen {
		list(&text, r)
	}
	if *write {
		if err := os.WriteFile(manifestFile, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(string(stored), text.String()); d != "" {
		t.Errorf("the messages on the wires are not those of %s (-listed +seen); write it anew with -args -manifest:\n%s", manifestFile, d)
	}
}

// listed tells whether the manifest has a setting. What the others add is the order
// in which two race.
func listed(s setting) bool { return s.recovery == byRetry || s.recovery == byCompleter }

// list lists the messages of a run: in order, or, where a completer polls on one
// connection while it works on another, what they ask for, once.
func list(text *strings.Builder, r *run) {
	if !listed(r.trial.setting) {
		return
	}
	var lines []string
	for _, m := range r.log {
		if r.trial.races() {
			for part := range strings.SplitSeq(m.summary, ", ") {
				lines = append(lines, fmt.Sprintf("  %s %s: %s\n", m.wire, m.process, part))
			}
		} else {
			lines = append(lines, fmt.Sprintf("  %s.%d %s: %s\n", m.wire, m.n, m.process, m.summary))
		}
	}
	if r.trial.races() {
		slices.Sort(lines)
		lines = slices.Compact(lines)
	}
	fmt.Fprintf(text, "%s\n%s", r.trial, strings.Join(lines, ""))
}

// coverage is what has struck: setting, message and kind.
type coverage map[string]bool

func (c coverage) add(r *run) {
	for i, at := range r.struck {
		if at >= 0 {
			c[spot(r.trial.setting, r.log[at], r.trial.faults[i].kind)] = true
		}
	}
}

func spot(s setting, m message, kind wire.Kind) string {
	return fmt.Sprintf("%s %s.%d %s", s, m.wire, m.n, kind)
}

// check finds the messages that were never cut.
func (c coverage) check(t *testing.T, seen []*run) {
	t.Helper()
	messages, missing := 0, 0
	for _, r := range seen {
		for _, m := range r.log {
			messages++
			for _, fault := range wholeAt(m, r.script, wire.CutBefore, wire.CutAfter, wire.CutSent, wire.HoldBefore, wire.HoldAfter) {
				if c[spot(r.trial.setting, m, fault.kind)] {
					continue
				}
				missing++
				if !r.trial.races() { // there, the last messages may not have come again
					t.Errorf("never struck: %s", spot(r.trial.setting, m, fault.kind))
				}
			}
		}
	}
	t.Logf("%d messages in %d settings; of the faults at them %d never struck, all where several go on at once", messages, len(seen), missing)
}

func sortTrials(trials []trial) {
	slices.SortFunc(trials, func(a, b trial) int { return cmp.Compare(a.String(), b.String()) })
}
