package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/alecthomas/kong"
)

// out is where a program writes.
type out struct {
	stdout, stderr io.Writer
}

// print writes value as one line of JSON, for programs, or lines for people.
func (o out) print(asJSON bool, value any, lines string) error {
	if !asJSON {
		_, err := io.WriteString(o.stdout, lines)
		return err
	}
	return json.NewEncoder(o.stdout).Encode(value)
}

// errUsage marks an error of how the program was called.
var errUsage = errors.New("wrong usage")

// run parses args into flags and hands the chosen command to execute.
func run(name, description string, flags any, args []string, o out, execute func(*kong.Context) error) int {
	exited := -1
	parser, err := kong.New(flags, kong.Name(name), kong.Description(description), kong.Writers(o.stdout, o.stderr),
		kong.Exit(func(code int) { exited = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Help(help))
	if err != nil {
		fmt.Fprintf(o.stderr, "%s: %v\n", name, err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help was asked for, and given
	}
	if err == nil {
		err = execute(parsed)
	} else {
		err = fmt.Errorf("%w: %w", errUsage, err)
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
func report(name string, err error, o out) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(o.stderr, "%s: %v\nRun %s --help for its usage.\n", name, err, name)
		return 2
	default:
		fmt.Fprintf(o.stderr, "%s: %v\n", name, err)
		return 1
	}
}

// logFlags say how to log.
type logFlags struct {
	LogFormat string `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`
}

func (f logFlags) logger(w io.Writer) *slog.Logger {
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// checkAddress refuses an address without a port, which is wrong usage rather
// than a failure to listen.
func checkAddress(flag, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("--%s needs HOST:PORT: %w", flag, err)
	}
	return nil
}
