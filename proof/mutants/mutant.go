package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// canary is the mutant that breaks nothing. It is tried in every run, because a
// runner that takes everything for killed would otherwise look like success.
const canary = "canary"

// A mutant is one patch and what is said of it in the lines before its diff.
type mutant struct {
	name string
	// patch is the path of the patch, which git apply takes with its header.
	patch string
	// rule is the rule that the patch breaks, as a sentence.
	rule string
	// killers are the tests each of which must fail.
	killers []test
	// survives is what only the canary must do.
	survives bool
}

// A test is one test function of one package of this module.
type test struct{ folder, name string }

// readMutants reads the patches whose names match, and the canary.
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
		text, err := os.ReadFile(patch)
		if err != nil {
			return nil, fmt.Errorf("reading patch: %w", err)
		}
		m, err := parseMutant(name, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", patch, err)
		}
		if m.patch, err = filepath.Abs(patch); err != nil {
			return nil, fmt.Errorf("finding patch: %w", err)
		}
		if m.survives {
			canaries++
		}
		mutants = append(mutants, m)
	}
	if canaries != 1 || len(mutants) < 2 {
		return nil, fmt.Errorf("%d mutants and %d canaries are chosen, want at least one mutant and one canary", len(mutants)-canaries, canaries)
	}
	return mutants, nil
}

// parseMutant reads the header of a patch: one line "Rule: …" and at least one
// "Killer: package Test", before the diff.
func parseMutant(name, text string) (mutant, error) {
	m := mutant{name: name}
	header, _, ok := strings.Cut(text, "\n--- ")
	if !ok {
		return m, errors.New("it has no diff")
	}
	for line := range strings.Lines(header) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch field {
		case "Rule":
			m.rule = value
		case "Killer":
			folder, name, ok := strings.Cut(value, " ")
			if !ok || !strings.HasPrefix(folder, "./") || !strings.HasPrefix(name, "Test") {
				return m, fmt.Errorf("%q is no package and test", value)
			}
			m.killers = append(m.killers, test{folder, name})
		case "Expect":
			m.survives = value == "survives"
		default:
			return m, fmt.Errorf("%q is none of Rule, Killer and Expect", field)
		}
	}
	if m.rule == "" || len(m.killers) == 0 {
		return m, errors.New("it must name a rule and a killer")
	}
	if m.survives != (name == canary) {
		return m, fmt.Errorf("%s must survive, and nothing else may", canary)
	}
	return m, nil
}

// An outcome is how a mutant ended.
type outcome struct {
	mutant mutant
	// passed are the killers that did not fail.
	passed []test
	// trouble says why the mutant could not be tried: the patch doesn't fit any
	// more, or what it makes isn't a program. That is no kill.
	trouble error
	took    time.Duration
}

func (o outcome) killed() bool { return o.trouble == nil && len(o.passed) == 0 }

func (o outcome) asExpected() bool { return o.trouble == nil && o.killed() != o.mutant.survives }

// verdict says how the mutant ended, in a few words.
func (o outcome) verdict() string {
	switch {
	case o.trouble != nil:
		return "NOT TRIED"
	case o.mutant.survives && o.killed():
		return "KILLED, though it breaks nothing: the runner cannot be believed"
	case o.mutant.survives:
		return "survived, as it must"
	case o.killed():
		return "killed"
	default:
		return "SURVIVED " + names(o.passed)
	}
}
