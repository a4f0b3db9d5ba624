package cli

import (
	"encoding/json"
	"io"
	"log/slog"

	"github.com/alecthomas/kong"
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

// commonFlags are the flags that every program has.
type commonFlags struct {
	LogFormat LogFormat        `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`
	Version   kong.VersionFlag `help:"Print the version, and exit."`
}

// LogFormat is the form of a program's log: "text" or "json".
type LogFormat string

// logger returns a logger in this form, which writes to w.
func (f LogFormat) logger(w io.Writer) *slog.Logger {
	if f == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
