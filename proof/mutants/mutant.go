package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// canary is the mutant that breaks nothing. It is tried in every run: a runner
// that took every mutant for killed would otherwise look like success.
const canary = "canary"

// A mutant is one patch and what the lines before its diff say about it.
type mutant struct {
	name string
	// patch is the path of the patch, which git apply takes with its header.
	patch string
	// invariants are the numbers of the invariants that the rule follows from.
	// The canary has none.
	invariants []string
	// rule is the rule that the patch breaks, as a sentence.
	rule string
	// killers are the tests each of which must fail.
	killers []test
	// survives is set if all tests must pass: for the canary alone.
	survives bool
}

// A test is one test function of one package of this module.
type test struct{ folder, name string }

// readMutants reads the patches in a folder whose names match, and the canary.
func readMutants(folder string, pattern *regexp.Regexp) ([]mutant, error) {
	patches, err := filepath.Glob(filepath.Join(folder, "*.patch"))
	if err != nil {
		return nil, fmt.Errorf("listing patches: %w", err)
	}
	var mutants []mutant
	canaries := 0
	for _, patch := range patches {
		name := strings.TrimSuffix(filepath.Base(patch), ".patch")
		if name != canary && !pattern.MatchString(name) {
			continue
		}
		m, err := readMutant(name, patch)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", patch, err)
		}
		if m.survives {
			canaries++
		}
		mutants = append(mutants, m)
	}
	if canaries != 1 || len(mutants) < 2 {
		return nil, fmt.Errorf("%d mutants and %d canaries match, want at least one mutant and one canary", len(mutants)-canaries, canaries)
	}
	return mutants, nil
}

func readMutant(name, patch string) (mutant, error) {
	text, err := os.ReadFile(patch)
	if err != nil {
		return mutant{}, err
	}
	m, err := parseMutant(name, string(text))
	if err != nil {
		return m, err
	}
	m.patch, err = filepath.Abs(patch)
	return m, err
}

// parseMutant reads the lines before the diff of a patch: "Invariant: I7 …",
// "Rule: …", and at least one "Killer: ./package Test".
func parseMutant(name, text string) (mutant, error) {
	m := mutant{name: name}
	header, _, ok := strings.Cut(text, "\n--- ")
	if !ok {
		return m, errors.New("the patch has no diff")
	}
	for line := range strings.Lines(header) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "diff --git ") || strings.HasPrefix(line, "index ") {
			continue // git diff puts these before a diff
		}
		field, value, _ := strings.Cut(line, ": ")
		switch field {
		case "Invariant":
			m.invariants = invariantsIn(value)
		case "Rule":
			m.rule = value
		case "Killer":
			folder, name, ok := strings.Cut(value, " ")
			if !ok || !strings.HasPrefix(folder, "./") || !strings.HasPrefix(name, "Test") {
				return m, fmt.Errorf("%q is not a package and a test", value)
			}
			m.killers = append(m.killers, test{folder, name})
		case "Expect":
			m.survives = value == "survives"
		default:
			return m, fmt.Errorf("%q is not one of Invariant, Rule, Killer and Expect", field)
		}
	}
	if m.rule == "" || len(m.killers) == 0 {
		return m, errors.New("the patch must name a rule and a killer")
	}
	if m.survives != (name == canary) {
		return m, fmt.Errorf("%s must survive, and no other mutant may", canary)
	}
	if (len(m.invariants) == 0) != (name == canary) {
		return m, fmt.Errorf("%s breaks no invariant, and every other patch must name one", canary)
	}
	return m, nil
}

// invariantsIn returns the numbers that a line names; "none" names none.
func invariantsIn(line string) []string {
	return slices.DeleteFunc(strings.Fields(line), func(word string) bool { return word == "none" })
}

// An outcome is how a mutant ended.
type outcome struct {
	mutant mutant
	// passed are the killers that did not fail.
	passed []test
	// trouble is why the mutant could not be tried: the patch no longer fits, or
	// the changed program does not compile. That is not a kill.
	trouble error
	took    time.Duration
}

func (o outcome) killed() bool { return o.trouble == nil && len(o.passed) == 0 }

func (o outcome) asExpected() bool { return o.trouble == nil && o.killed() != o.mutant.survives }

// verdict returns how the mutant ended, in a few words.
func (o outcome) verdict() string {
	switch {
	case o.trouble != nil:
		return "NOT TRIED"
	case o.mutant.survives && o.killed():
		return "KILLED, although it breaks nothing: no result of this run can be trusted"
	case o.mutant.survives:
		return "survived, as expected"
	case o.killed():
		return "killed"
	default:
		return "SURVIVED " + names(o.passed)
	}
}
