package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is a command of the README with what it says that the output holds.
type step struct {
	command string
	output  []string
}

// session reads the README's blocks whose info strings are "sh session" and
// "text output": what is typed in the second terminal, in order, in one shell.
func session(t *testing.T) []step {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	for _, block := range regexp.MustCompile("(?ms)^```(sh session|text output)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "sh session" {
			steps = append(steps, step{command: block[2]})
			continue
		}
		last := &steps[len(steps)-1]
		last.output = strings.Split(strings.TrimSpace(block[2]), "\n")
	}
	return steps
}

// pattern matches a line of the README: "…" stands for anything, a blank for
// some.
func pattern(line string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(line)
	quoted = strings.ReplaceAll(quoted, "…", ".*")
	return regexp.MustCompile(regexp.MustCompile(` +`).ReplaceAllString(quoted, `\s+`))
}

func TestTheReadmesSessionHappensAsItSays(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	b := start(t, filepath.Join(dir, ".sandbox"), anywhere, "LEASE=5s", "STRIPE_TIMEOUT=4s")
	addProgram(t, dir, "completer")
	here := strings.NewReplacer("http://127.0.0.1:8080", b.state.APIURL, "http://127.0.0.1:12111", b.state.StripeURL)
	steps := session(t)
	if len(steps) < 7 {
		t.Fatalf("the README has %d steps, want those of a whole session", len(steps))
	}
	var script strings.Builder
	const end = "-- end of a step --"
	for _, step := range steps {
		fmt.Fprintf(&script, "%s\necho '%s'\n", here.Replace(step.command), end)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-e", "-c", script.String())
	shell.Dir, shell.WaitDelay = dir, time.Second
	printed, err := shell.CombinedOutput()
	if err != nil {
		t.Errorf("the session ended with %v", err)
	}
	outputs := strings.Split(string(printed), end)
	for i, step := range steps {
		if i >= len(outputs) {
			t.Fatalf("the session ended before\n%s", step.command)
		}
		checkOutput(t, step, outputs[i])
	}
}

// checkOutput looks for the lines of a step, in order.
func checkOutput(t *testing.T, s step, printed string) {
	t.Helper()
	rest := printed
	for _, line := range s.output {
		found := pattern(line).FindStringIndex(rest)
		if found == nil {
			t.Errorf("%s\nprints\n%s\nwhere the README has %s", s.command, printed, line)
			return
		}
		rest = rest[found[1]:]
	}
}

// addProgram puts one of the programs into dir/bin, where `make build` would
// put it.
func addProgram(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", asMain, name, os.Args[0])
	if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}
