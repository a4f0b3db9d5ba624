// Package cli holds what every program has: its command line, its log, its
// listeners and its answer to signals. A program is a function of its arguments
// that returns the exit code: 0 done, 1 failed, 2 wrong usage. Logs and
// complaints go to stderr, results to stdout.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/alecthomas/kong"
)

// Output is where a program writes.
type Output struct {
	Stdout, Stderr io.Writer
}

// Print writes value as one line of JSON, for programs, or lines for people.
func (o Output) Print(asJSON bool, value any, lines string) error {
	if !asJSON {
		_, err := io.WriteString(o.Stdout, lines)
		return err
	}
	return json.NewEncoder(o.Stdout).Encode(value)
}

// ErrUsage marks an error of how the program was called.
var ErrUsage = errors.New("wrong usage")

// Run parses args into flags and hands the chosen command to execute.
func Run(name, description string, flags any, args []string, o Output, execute func(*kong.Context) error) int {
	exited := -1
	parser, err := kong.New(flags, kong.Name(name), kong.Description(description), kong.Writers(o.Stdout, o.Stderr),
		kong.Exit(func(code int) { exited = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Help(help))
	if err != nil {
		fmt.Fprintf(o.Stderr, "%s: %v\n", name, err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help was asked for, and given
	}
	if err == nil {
		err = execute(parsed)
	} else {
		err = fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return report(name, err, o)
}

// help prints the help that was asked for. A program's own help is followed by
// that of the command that runs without being named: its settings are the
// program's.
func help(options kong.HelpOptions, asked *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, asked); err != nil {
		return err
	}
	unnamed := asked.Model.DefaultCmd
	if asked.Selected() != nil || unnamed == nil || len(unnamed.Flags) == 0 {
		return nil
	}
	command, err := kong.Trace(asked.Kong, []string{unnamed.Name})
	if err != nil {
		return fmt.Errorf("finding the command %s: %w", unnamed.Name, err)
	}
	fmt.Fprintln(asked.Stdout)
	return kong.DefaultHelpPrinter(options, command)
}

// report says what went wrong in one line, and returns the exit code.
func report(name string, err error, o Output) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		fmt.Fprintf(o.Stderr, "%s: %v\nRun %s --help for its usage.\n", name, err, name)
		return 2
	default:
		fmt.Fprintf(o.Stderr, "%s: %v\n", name, err)
		return 1
	}
}

// LogFlags say how to log.
type LogFlags struct {
	LogFormat string `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`
}

// Logger returns the logger that the flags ask for, writing to w.
func (f LogFlags) Logger(w io.Writer) *slog.Logger {
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// CheckAddress refuses an address without a port, which is wrong usage rather
// than a failure to listen.
func CheckAddress(flag, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("--%s needs HOST:PORT: %w", flag, err)
	}
	return nil
}
