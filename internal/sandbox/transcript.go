package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// A transcript is the log on stderr: what the sandbox and its children say,
// line by line, each with its speaker. It is safe for concurrent use.
type transcript struct {
	json bool

	mu sync.Mutex
	w  io.Writer
}

// sayf says a line as the sandbox itself.
func (t *transcript) sayf(format string, args ...any) {
	t.write("sandbox", fmt.Appendf(nil, format, args...))
}

// logger is one whose lines a speaker says.
func (t *transcript) logger(speaker string) *slog.Logger {
	if t.json {
		return slog.New(slog.NewJSONHandler(t.of(speaker), nil))
	}
	return slog.New(slog.NewTextHandler(t.of(speaker), nil))
}

// write writes one line. A terminal that has gone away is nobody's fault.
func (t *transcript) write(speaker string, line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.json {
		_, _ = fmt.Fprintf(t.w, "%s\n", sign(speaker, line))
		return
	}
	_, _ = fmt.Fprintf(t.w, "%-10s | %s\n", speaker, line)
}

// sign names the speaker in a line of JSON, and makes one of any other line,
// such as those of a crash.
func sign(speaker string, line []byte) []byte {
	if bytes.HasPrefix(line, []byte(`{"`)) && json.Valid(line) {
		return fmt.Appendf(nil, `{"process":%q,%s`, speaker, line[1:])
	}
	signed, err := json.Marshal(struct {
		Process string `json:"process"`
		Message string `json:"msg"`
	}{speaker, string(line)})
	if err != nil {
		return line // can't be: both are strings
	}
	return signed
}

// of returns what a speaker writes to.
func (t *transcript) of(speaker string) *voice { return &voice{transcript: t, speaker: speaker} }

// A voice passes on whole lines. Its Write never fails: a child must not feel
// the sandbox's terminal go away. It is safe for concurrent use.
type voice struct {
	transcript *transcript
	speaker    string

	mu   sync.Mutex
	rest []byte
}

func (v *voice) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rest = append(v.rest, p...)
	for {
		line, rest, ok := bytes.Cut(v.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		v.transcript.write(v.speaker, line)
		v.rest = rest
	}
}

// finish says what a process that was killed amid a line left unfinished.
func (v *voice) finish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.rest) > 0 {
		v.transcript.write(v.speaker, v.rest)
		v.rest = nil
	}
}
