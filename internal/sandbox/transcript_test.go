package sandbox

import (
	"errors"
	"io"
	"testing"
)

func TestATranscriptHasWholeLinesWithTheirSpeaker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		json bool
		want string
	}{
		"for people": {false, "api        | {\"level\":\"INFO\"}\ncompleter  | panic: \"oh\"\napi        | un\n"},
		"for programs": {true, `{"process":"api","level":"INFO"}` + "\n" +
			`{"process":"completer","msg":"panic: \"oh\""}` + "\n" + `{"process":"api","msg":"un"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log buffer
			said := &transcript{w: &log, json: c.json}
			api, completer := said.of("api"), said.of("completer")
			_, _ = io.WriteString(api, `{"level":`)
			_, _ = io.WriteString(completer, "panic")
			_, _ = io.WriteString(api, "\"INFO\"}\nun")
			_, _ = io.WriteString(completer, ": \"oh\"\n")
			api.finish()
			completer.finish()
			if log.String() != c.want {
				t.Errorf("got\n%swant\n%s", log.String(), c.want)
			}
		})
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestATerminalThatIsGoneDoesNotSilenceAChild(t *testing.T) {
	t.Parallel()
	voice := (&transcript{w: brokenPipe{}}).of("api")
	if n, err := io.WriteString(voice, "one\ntwo"); n != len("one\ntwo") || err != nil {
		t.Errorf("a child's write ends with %d, %v", n, err)
	}
}
