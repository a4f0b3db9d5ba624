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

// A tree is a copy of the files of the repository, where mutants do no harm.
type tree struct {
	dir string
	// timeout bounds one run of a package's tests.
	timeout time.Duration
}

// copyTree copies the files of the work tree that git tracks or would add, with
// changes that are not committed.
func copyTree(ctx context.Context) (*tree, error) {
	// git refuses a clone that belongs to another user; reading one does no harm.
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
		// git still lists a file that was deleted after it was committed.
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

// remove deletes the copy. If that fails, the rest stays in the system's folder
// for temporary files.
func (t *tree) remove() { _ = os.RemoveAll(t.dir) }

// healthy runs all killers on the unchanged tree. They must pass there, or their
// failures later would show nothing.
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
			err = fmt.Errorf("%s failed on the unchanged tree", names(failed))
		}
		if err != nil {
			fmt.Fprintln(out)
			return err
		}
		fmt.Fprintf(out, "%d tests pass, %.1f s\n", len(byName(tests)), time.Since(start).Seconds())
	}
	return nil
}

// try applies a mutant, runs its killers, and reverts it. It returns an error if
// the tree could not be restored, so that nothing more can be tried in it.
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

// apply applies a patch. A patch that no longer fits is an error, and not a
// kill: the code under it has changed, and the patch must be adapted.
func (t *tree) apply(ctx context.Context, patch string, options ...string) error {
	apply := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*", "apply"}, append(options, patch)...)...)
	apply.Dir = t.dir
	// If the folder for temporary files is inside a repository, git would take
	// the paths of the patch for paths of that repository, and skip them
	// silently.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(t.dir))
	if _, err := apply.Output(); err != nil {
		return fmt.Errorf("applying the patch: %w", withStderr(err))
	}
	return nil
}

// testTimeout is long enough for the slowest killers on a busy machine. A mutant
// that hangs must be killed by a test that notices it. This time-out kills
// nothing, because a busy machine can exceed it as well.
const testTimeout = 5 * time.Minute

// test runs tests of one package, and returns those that passed and those that
// failed. If one did neither, because the build failed or there is no such test,
// or if the time ran out, it returns an error with the output of go test.
func (t *tree) test(ctx context.Context, folder string, tests []test) (passed, failed []test, err error) {
	// Neither vet nor the race detector kills these mutants. With -trimpath the
	// name of the copy's folder is not part of what is built, so that the next
	// run finds it in the cache.
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
		return nil, nil, fmt.Errorf("the tests in %s did not end within %s:\n%s", folder, t.timeout, text)
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

// readResults reads the events of go test -json (see go doc test2json). It
// returns how each test ended, and everything that was printed.
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

// timedOut reports whether package testing ended the run at its -timeout, which
// it prints at the beginning of a line.
func timedOut(text string) bool {
	return strings.Contains("\n"+text, "\npanic: test timed out after ")
}

// withStderr adds what a program wrote to its standard error to the error that
// it ended with.
func withStderr(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
}
