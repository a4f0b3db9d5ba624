package crash

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
)

// manifestFile lists every message of every setting. It shows in a review what
// a change does to the wires.
const manifestFile = "testdata/manifest.txt"

// checkManifest compares the messages of the runs without faults with those
// that are listed.
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

// listed tells whether the manifest has a setting. What the others add is the
// order in which two race.
func listed(s setting) bool { return s.recovery == byRetry || s.recovery == byCompleter }

// list lists the messages of a run: in order, or, where a completer polls on
// one connection while it works on another, what they ask for, once.
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

// coverage is what has struck: setting and place.
type coverage map[string]bool

func (c coverage) add(r *run) {
	for i, at := range r.struck {
		if at >= 0 {
			c[spot(r.trial.setting, r.trial.faults[i])] = true
		}
	}
}

func spot(s setting, p place) string { return s.String() + " " + p.String() }

// elusive is how many of a thousand faults may never strike where several go on
// at once: there, the last messages of one run may not come in another.
const elusive = 50

// check finds the places where no fault ever struck.
func (c coverage) check(t *testing.T, seen []*run) {
	t.Helper()
	messages, racing, missing := 0, 0, 0
	for _, r := range seen {
		messages += len(r.log)
		for _, single := range singles(r) {
			struck := c[spot(single.setting, single.faults[0])]
			switch {
			case single.races():
				racing++
				if !struck {
					missing++
				}
			case !struck:
				t.Errorf("never struck: %s", single)
			}
		}
	}
	t.Logf("%d messages in %d settings; of %d faults where several go on at once %d never struck, and of the others none", messages, len(seen), racing, missing)
	if missing*1000 > racing*elusive {
		t.Errorf("more than %d of a thousand faults never struck where several go on at once", elusive)
	}
}

func sortTrials(trials []trial) {
	slices.SortFunc(trials, func(a, b trial) int { return cmp.Compare(a.String(), b.String()) })
}
