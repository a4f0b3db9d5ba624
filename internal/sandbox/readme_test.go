package sandbox

import (
	"bytes"
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

// step is a command of a document, and lines that its output must hold.
type step struct {
	command string
	output  []string
}

// session returns the commands that the documents have people type in the second
// terminal, all in one shell: their blocks with the info strings "sh session"
// and "text output". The README comes first: it defines what the others use.
func session(t *testing.T) []step {
	t.Helper()
	var text []byte
	for _, name := range []string{"README.md", "docs/integrate.md", "docs/operating.md"} {
		document, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(document, []byte("```sh session")) {
			t.Errorf("%s has no session", name)
		}
		text = append(text, document...)
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

// pattern matches a line of the README's output: "…" stands for any text, and
// blanks for any number of blanks.
func pattern(line string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(line)
	quoted = strings.ReplaceAll(quoted, "…", ".*")
	return regexp.MustCompile(regexp.MustCompile(` +`).ReplaceAllString(quoted, `\s+`))
}

func TestREADMESession(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	// A ride that a document parks must still wait for its next attempt then.
	start(t, filepath.Join(dir, ".sandbox"), freePorts, "BACKOFF_INITIAL=5s")
	addPrograms(t, dir, "api", "completer", "sandbox", "simulator")
	steps := session(t)
	if len(steps) < 7 {
		t.Fatalf("the documents have %d steps, want those of a whole session", len(steps))
	}
	var script strings.Builder
	const end = "-- end of a step --"
	for _, step := range steps {
		fmt.Fprintf(&script, "%s\necho '%s'\n", step.command, end)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
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

// checkOutput looks for the lines of a step, in order. Only those of the log are
// in any order: it has lines of several programs.
func checkOutput(t *testing.T, s step, printed string) {
	t.Helper()
	rest := printed
	for _, line := range s.output {
		found := pattern(line).FindStringIndex(rest)
		if found == nil {
			t.Errorf("%s\nprints\n%s\nbut the document has %s", s.command, printed, line)
			return
		}
		if !strings.Contains(s.command, ".sandbox/log") {
			rest = rest[found[1]:]
		}
	}
}

// addPrograms puts programs into dir/bin, as `make build` does.
func addPrograms(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", asMain, name, os.Args[0])
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
