package cli

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/rocketrides/rocketrides/internal/trace"
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
	line, err := EncodeJSON(value)
	if err == nil {
		_, err = o.Stdout.Write(append(line, '\n'))
	}
	return err
}

// EncodeJSON returns value as JSON for programs, as encoding/json does, but with
// times as the API shows them: in UTC, with six digits after the second, which
// is the precision of the database. So their texts sort as the times do.
// options are added, such as an indentation.
func EncodeJSON(value any, options ...json.Options) ([]byte, error) {
	times := json.WithMarshalers(json.MarshalFunc(func(t time.Time) ([]byte, error) {
		return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000000Z"`)), nil
	}))
	encoded, err := json.Marshal(value, json.JoinOptions(jsonv1.DefaultOptionsV1(), times, json.JoinOptions(options...)))
	if err != nil {
		return nil, fmt.Errorf("encoding result: %w", err)
	}
	return encoded, nil
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
		return slog.New(trace.Handler(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(trace.Handler(slog.NewTextHandler(w, nil)))
}
