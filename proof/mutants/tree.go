package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A tree is a copy of the repository's files, in which mutants can do no harm.
type tree struct {
	dir string
	// timeout bounds one run of a package's tests.
	timeout time.Duration
}

// copyTree copies what git knows of or would take, as it lies in the work tree,
// changes that were never committed included.
func copyTree(ctx context.Context) (*tree, error) {
	// A clone that belongs to another user is read only: that is harmless.
	files, err := exec.CommandContext(ctx, "git", "-c", "safe.directory=*",
		"ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("listing files with git: %w", withStderr(err))
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the copy: %w", err)
	}
	t := &tree{dir: dir, timeout: testTimeout}
	for file := range bytes.SplitSeq(bytes.TrimRight(files, "\x00"), []byte{0}) {
		// A file that was deleted since it was committed is still listed.
		if err := copyFile(filepath.Join(dir, string(file)), string(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.remove()
			return nil, fmt.Errorf("copying %s: %w", file, err)
		}
	}
	return t, nil
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

// remove deletes the copy. What is left of it when that fails lies in the
// system's folder for temporary files.
func (t *tree) remove() { _ = os.RemoveAll(t.dir) }

// healthy runs all killers on the tree as it is. They must pass there, or their
// failing later would show nothing.
func (t *tree) healthy(ctx context.Context, mutants []mutant, out io.Writer) error {
	var all []test
	for _, m := range mutants {
		all = append(all, m.killers...)
	}
	for folder, tests := range byFolder(all) {
		fmt.Fprintf(out, "unchanged, %s: ", folder)
		start := time.Now()
		_, failed, err := t.test(ctx, folder, tests)
		if err == nil && len(failed) > 0 {
			err = fmt.Errorf("%s failed on the tree as it is", names(failed))
		}
		if err != nil {
			fmt.Fprintln(out)
			return err
		}
		fmt.Fprintf(out, "%d tests pass, %.1f s\n", len(byName(tests)), time.Since(start).Seconds())
	}
	return nil
}

// try applies a mutant, runs its killers, and takes it back. The error says
// that the tree is not what it was, so that nothing more can be tried in it.
func (t *tree) try(ctx context.Context, m mutant) (outcome, error) {
	done := outcome{mutant: m}
	if done.trouble = t.apply(ctx, m.patch); done.trouble != nil {
		return done, ctx.Err() // git apply changes all of its files or none
	}
	start := time.Now()
	for folder, tests := range byFolder(m.killers) {
		passed, _, err := t.test(ctx, folder, tests)
		done.passed, done.trouble = append(done.passed, passed...), errors.Join(done.trouble, err)
	}
	done.took = time.Since(start)
	return done, t.apply(ctx, m.patch, "--reverse")
}

// apply applies a patch. One that doesn't fit any more is an error, and no
// kill: the code under it has changed, and the patch must follow.
func (t *tree) apply(ctx context.Context, patch string, options ...string) error {
	apply := exec.CommandContext(ctx, "git", append([]string{"apply"}, append(options, patch)...)...)
	apply.Dir = t.dir
	// Where the folder for temporary files lies inside of a repository, git
	// would take the patch's paths for that one's, and skip them silently.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(t.dir))
	if _, err := apply.Output(); err != nil {
		return fmt.Errorf("applying the patch: %w", withStderr(err))
	}
	return nil
}

// testTimeout is long enough for the slowest killers on a busy machine. A
// mutant that hangs is to be killed by a test that notices, and not by this: a
// busy machine runs out of time as well.
const testTimeout = 5 * time.Minute

// test runs tests of one package and says which passed and which failed. Where
// one did neither, because nothing could be built or there is no such test, or
// where the time was over, it returns an error with what go said.
func (t *tree) test(ctx context.Context, folder string, tests []test) (passed, failed []test, err error) {
	// Neither vet nor the race detector kills these mutants. Without the
	// folder's name in it, what is built today is found in the cache tomorrow.
	run := exec.CommandContext(ctx, "go", "test", "-json", "-vet=off", "-trimpath", "-count=1", "-timeout="+t.timeout.String(),
		"-run=^("+strings.Join(byName(tests), "|")+")$", folder)
	run.Dir = t.dir
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	run.WaitDelay = 10 * time.Second
	said, err := run.Output()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	exit := new(exec.ExitError)
	if err != nil && !errors.As(err, &exit) {
		return nil, nil, fmt.Errorf("running go test: %w", err)
	}
	results, text := readResults(said)
	if timedOut(text) {
		return nil, nil, fmt.Errorf("the tests in %s were not done within %s:\n%s", folder, t.timeout, text)
	}
	for _, one := range tests {
		switch results[one.name] {
		case "pass":
			passed = append(passed, one)
		case "fail":
			failed = append(failed, one)
		default:
			return nil, nil, fmt.Errorf("%s neither passed nor failed:\n%s%s", one.name, text, exit.Stderr)
		}
	}
	return passed, failed, nil
}

// readResults reads the events of go test -json (see go doc test2json): how
// each test ended, and everything that was printed.
func readResults(events []byte) (results map[string]string, text string) {
	results = map[string]string{}
	var printed strings.Builder
	for line := range bytes.Lines(events) {
		var event struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &event); err != nil {
			printed.Write(line)
			continue
		}
		printed.WriteString(event.Output)
		if event.Action == "pass" || event.Action == "fail" {
			results[event.Test] = event.Action
		}
	}
	return results, printed.String()
}

// timedOut tells that package testing ended the run at its -timeout. It says so
// at the beginning of a line.
func timedOut(text string) bool {
	return strings.Contains("\n"+text, "\npanic: test timed out after ")
}

// withStderr adds what a program said to how it ended.
func withStderr(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
}
