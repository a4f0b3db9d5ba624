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

// checkManifest compares the messages of a flow's runs without faults with its
// manifest. That lists every message of every setting, so that a review shows
// how a change affects the messages. TestEveryFault rewrites it with -manifest.
func checkManifest(t *testing.T, f flow, seen []*run) {
	t.Helper()
	manifestFile := "testdata/" + f.name + ".txt"
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
		t.Errorf("the messages are not those of %s (-listed +seen); rewrite it with -args -manifest:\n%s", manifestFile, d)
	}
}

// listed reports whether the manifest has a setting. The other settings differ
// only in the order in which two workers race.
func listed(s setting) bool { return s.recovery == byRetry || s.recovery == byCompleter }

// list lists the messages of a run in order. A completer polls on one
// connection while it works on another, so if it takes part, each kind of
// message is listed once.
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

// coverage has the settings and injections that have struck.
type coverage map[string]bool

func (c coverage) add(r *run) {
	for i, at := range r.struck {
		if at >= 0 {
			c[covered(r.trial.setting, r.trial.faults[i])] = true
		}
	}
}

// covered is what coverage knows an injection in a setting by.
func covered(s setting, i injection) string { return s.String() + " " + i.String() }

// maxMissed is how many of a thousand faults may never strike if several
// workers race: the last messages of one run may not come in another one.
const maxMissed = 50

// check reports the faults that never struck.
func (c coverage) check(t *testing.T, seen []*run) {
	t.Helper()
	messages, racing, missing := 0, 0, 0
	for _, r := range seen {
		messages += len(r.log)
		for _, single := range singles(r) {
			struck := c[covered(single.setting, single.faults[0])]
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
	t.Logf("%d messages in %d settings; of %d faults in races %d never struck", messages, len(seen), racing, missing)
	if missing*1000 > racing*maxMissed {
		t.Errorf("more than %d of a thousand faults in races never struck", maxMissed)
	}
}

func sortTrials(trials []trial) {
	slices.SortFunc(trials, func(a, b trial) int { return cmp.Compare(a.String(), b.String()) })
}
