package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestLogHasWholeLinesWithTheirProcess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		json bool
		want string
	}{
		"as text": {false, "api        | {\"level\":\"INFO\"}\ncompleter  | panic: \"oh\"\napi        | un\n"},
		"as JSON": {true, `{"process":"api","level":"INFO"}` + "\n" +
			`{"process":"completer","msg":"panic: \"oh\""}` + "\n" + `{"process":"api","msg":"un"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log buffer
			shared := &sharedLog{w: &log, json: c.json}
			api, completer := shared.writer("api"), shared.writer("completer")
			_, _ = io.WriteString(api, `{"level":`)
			_, _ = io.WriteString(completer, "panic")
			_, _ = io.WriteString(api, "\"INFO\"}\nun")
			_, _ = io.WriteString(completer, ": \"oh\"\n")
			api.flush()
			completer.flush()
			if log.String() != c.want {
				t.Errorf("got\n%swant\n%s", log.String(), c.want)
			}
		})
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteSucceedsWhenTheTerminalIsGone(t *testing.T) {
	t.Parallel()
	shared, path := &sharedLog{w: brokenPipe{}}, filepath.Join(t.TempDir(), "log")
	file, err := shared.keepIn(path)
	if err != nil {
		t.Fatal(err)
	}
	output := shared.writer("api")
	if n, err := io.WriteString(output, "one\ntwo"); n != len("one\ntwo") || err != nil {
		t.Errorf("a write of a child returned %d, %v", n, err)
	}
	output.flush()
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "api        | one\napi        | two\n" {
		t.Errorf("the file has %q (%v)", text, err)
	}
}
