package cli

import (
	"encoding/json"
	"io"
	"log/slog"
)

// Output is where a program writes: results to Stdout, everything else to
// Stderr.
type Output struct {
	Stdout, Stderr io.Writer
}

// Print prints a result: value as one line of JSON when asJSON, for programs,
// and text otherwise, for people.
func (o Output) Print(asJSON bool, value any, text string) error {
	if !asJSON {
		_, err := io.WriteString(o.Stdout, text)
		return err
	}
	return json.NewEncoder(o.Stdout).Encode(value)
}

// logFlags are the flags of the log, which every program has.
type logFlags struct {
	LogFormat string `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`
}

// logger returns a logger in the format of the flags, which writes to w.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
