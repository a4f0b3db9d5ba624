package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// logFileName is the name of the log's file in the folder of the sandbox. Each
// start begins it anew.
const logFileName = "log"

// A sharedLog is the log on stderr and in a file: the lines of the sandbox and
// its children, each with the name of its process. It is safe for concurrent
// use.
type sharedLog struct {
	json bool

	mu   sync.Mutex
	w    io.Writer
	file io.Writer // nil before keepIn
}

// keepIn writes the log to a file as well, from now on. The caller closes the
// file at the end. Only this account may read it.
func (l *sharedLog) keepIn(path string) (io.Closer, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log's file: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file = file
	return file, nil
}

// printf writes a line of the sandbox itself.
func (l *sharedLog) printf(format string, args ...any) {
	l.writeLine("sandbox", fmt.Appendf(nil, format, args...))
}

// logger returns a logger that writes lines of a process.
func (l *sharedLog) logger(process string) *slog.Logger {
	if l.json {
		return slog.New(slog.NewJSONHandler(l.writer(process), nil))
	}
	return slog.New(slog.NewTextHandler(l.writer(process), nil))
}

// writeLine ignores errors: the terminal may be gone.
func (l *sharedLog) writeLine(process string, line []byte) {
	text := fmt.Appendf(nil, "%-10s | %s\n", process, line)
	if l.json {
		text = append(jsonLine(process, line), '\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(text)
	if l.file != nil {
		_, _ = l.file.Write(text)
	}
}

// jsonLine adds the process to a line of JSON. It makes JSON of any other line,
// such as those of a panic.
func jsonLine(process string, line []byte) []byte {
	if bytes.HasPrefix(line, []byte(`{"`)) && json.Valid(line) {
		return fmt.Appendf(nil, `{"process":%q,%s`, process, line[1:])
	}
	encoded, err := json.Marshal(struct {
		Process string `json:"process"`
		Message string `json:"msg"`
	}{process, string(line)})
	if err != nil {
		return line // impossible: strings can always be encoded
	}
	return encoded
}

// writer returns a writer for the output of a process.
func (l *sharedLog) writer(process string) *lineWriter {
	return &lineWriter{log: l, process: process}
}

// A lineWriter passes whole lines on to a sharedLog. Its Write never fails: a
// child must not notice that the sandbox's terminal is gone. It is safe for
// concurrent use.
type lineWriter struct {
	log     *sharedLog
	process string

	mu   sync.Mutex
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.log.writeLine(w.process, line)
		w.rest = rest
	}
}

// flush writes the incomplete line that a process has left, if there is one.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.log.writeLine(w.process, w.rest)
		w.rest = nil
	}
}
