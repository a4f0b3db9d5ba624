package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// smallTree returns a module of one package with the given test file.
func smallTree(t *testing.T, tests string, timeout time.Duration) *tree {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "go.mod", "module small\n\ngo 1.26\n")
	write(t, dir, "x_test.go", tests)
	return &tree{dir: dir, timeout: timeout}
}

// write writes a file and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestATimeOutIsNotAKill: a test that still runs when the time is up has noticed
// nothing.
func TestATimeOutIsNotAKill(t *testing.T) {
	t.Parallel()
	small := smallTree(t, `package x

import (
	"testing"
	"time"
)

func TestHangs(*testing.T) { time.Sleep(time.Hour) }

func TestFails(t *testing.T) { t.Error("panic: test timed out after 1s") }
`, time.Second)
	if _, _, err := small.test(t.Context(), ".", []test{{".", "TestHangs"}}); err == nil || !strings.Contains(err.Error(), "did not end within 1s") {
		t.Errorf("a test that hangs: %v, want trouble", err)
	}
	if _, failed, err := small.test(t.Context(), ".", []test{{".", "TestFails"}}); err != nil || len(failed) != 1 {
		t.Errorf("a test that fails: %v, %v, want it failed", failed, err)
	}
}

// TestAFailureForAnotherReasonIsNotAKill: a test that fails from its second run
// on, as one does that has lost its Postgres, would seem to kill every mutant.
func TestAFailureForAnotherReasonIsNotAKill(t *testing.T) {
	t.Parallel()
	small := smallTree(t, `package x

import (
	"os"
	"testing"
)

func TestRunsOnce(t *testing.T) {
	if err := os.Mkdir("was-here", 0o700); err != nil {
		t.Error(err)
	}
}
`, time.Minute)
	write(t, small.dir, "x.txt", "a\n")
	patch := write(t, t.TempDir(), "x.patch", "--- a/x.txt\n+++ b/x.txt\n@@ -1 +1 @@\n-a\n+b\n")
	broken := mutant{name: "x", patch: patch, killers: []test{{".", "TestRunsOnce"}}}
	var out strings.Builder
	err := tryAll(t.Context(), small, []mutant{broken}, io.MultiWriter(&out, t.Output()))
	if err == nil || !strings.Contains(err.Error(), "no kill can be trusted") || !strings.Contains(out.String(), "x: killed") {
		t.Errorf("got %v, want that the kill is not trusted", err)
	}
}
