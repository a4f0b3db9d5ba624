package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/proof/invariants"
)

const diff = "\n--- a/x.go\n+++ b/x.go\n@@ -1 +1 @@\n-a\n+b\n"

func TestEveryPatchNamesARuleAndAKiller(t *testing.T) {
	t.Parallel()
	mutants, err := readMutants(".", regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	list, err := invariants.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{} // the source of the tests, by the folder of their package
	for _, m := range mutants {
		for _, number := range m.invariants {
			if list[number] == "" {
				t.Errorf("%s breaks %s, which is not in the list of internal/phases", m.name, number)
			}
		}
		for _, killer := range m.killers {
			if tests[killer.folder] == "" {
				tests[killer.folder] = readTests(t, killer.folder)
			}
			if !strings.Contains(tests[killer.folder], "\nfunc "+killer.name+"(") {
				t.Errorf("%s names %s, which %s does not have", m.name, killer.name, killer.folder)
			}
		}
	}
}

// readTests returns the source of the tests of a package.
func readTests(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// TestEveryPatchFits, which the run of all mutants would find an hour later. git
// is needed, as it is for that.
func TestEveryPatchFits(t *testing.T) {
	t.Parallel()
	mutants, err := readMutants(".", regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	unchanged := &tree{dir: root}
	for _, m := range mutants {
		if err := unchanged.apply(t.Context(), m.patch, "--check"); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

func TestPatchesThatAreRefused(t *testing.T) {
	t.Parallel()
	const rule, killer = "Invariant: I13\nRule: nothing is lost\n", "Killer: ./internal/phases TestX\n"
	for name, test := range map[string]struct{ patch, text string }{
		"no diff":               {"p", rule + killer},
		"no rule":               {"p", "Invariant: I13\n" + killer + diff},
		"no invariant":          {"p", "Rule: nothing is lost\n" + killer + diff},
		"no killer":             {"p", rule + diff},
		"a killer without test": {"p", rule + "Killer: ./internal/phases\n" + diff},
		"an unknown field":      {"p", rule + killer + "Author: ann\n" + diff},
		"a mutant that may live": {
			"p", rule + killer + "Expect: survives\n" + diff,
		},
		"a canary that must die": {canary, rule + killer + diff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseMutant(test.patch, test.text); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

// TestResults: a test that fails is told apart from a program that does not
// compile, which no test has noticed.
func TestResults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		events string
		want   map[string]string
		text   string
	}{
		"one passes and one fails": {
			events: `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"--- PASS: TestA\n"}
{"Action":"pass","Test":"TestA"}
{"Action":"fail","Test":"TestB/sub"}
{"Action":"fail","Test":"TestB"}
{"Action":"fail"}
`,
			want: map[string]string{"TestA": "pass", "TestB/sub": "fail", "TestB": "fail", "": "fail"},
			text: "--- PASS: TestA\n",
		},
		"nothing is built": {
			events: `{"ImportPath":"x","Action":"build-output","Output":"x.go:1:1: syntax error\n"}
{"ImportPath":"x","Action":"build-fail"}
{"Action":"fail","Package":"x","FailedBuild":"x"}
`,
			want: map[string]string{"": "fail"},
			text: "x.go:1:1: syntax error\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results, text := readResults([]byte(test.events))
			if diff := cmp.Diff(test.want, results); diff != "" {
				t.Error(diff)
			}
			if text != test.text {
				t.Errorf("printed %q, want %q", text, test.text)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	killer := test{"./internal/phases", "TestX"}
	for name, c := range map[string]struct {
		outcome outcome
		fine    bool
		says    string
	}{
		"a killed mutant":      {outcome{}, true, "killed"},
		"a survivor":           {outcome{passed: []test{killer}}, false, "SURVIVED internal/phases TestX"},
		"a living canary":      {outcome{mutant: mutant{survives: true}, passed: []test{killer}}, true, "survived, as expected"},
		"a dead canary":        {outcome{mutant: mutant{survives: true}}, false, "KILLED"},
		"a patch with trouble": {outcome{trouble: errors.New("no patch")}, false, "NOT TRIED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.outcome.asExpected(); got != c.fine {
				t.Errorf("as expected: %v, want %v", got, c.fine)
			}
			if got := c.outcome.verdict(); !strings.HasPrefix(got, c.says) {
				t.Errorf("got %q, want %q", got, c.says)
			}
		})
	}
}
