// Package cli holds what every program has: a command line, a log, listeners
// and an answer to signals. A program is a function that takes its arguments
// and returns its exit code: 0 done, 1 failed, 2 wrong usage. Results go to
// stdout, logs and complaints to stderr.
//
// [Run] parses the arguments into a struct of flags and commands, as [kong]
// describes it, and calls the Run method of the chosen command.
//
// [kong]: https://pkg.go.dev/github.com/alecthomas/kong
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// ErrUsage marks an error in how a program was called.
var ErrUsage = errors.New("wrong usage")

// Run runs a program and returns its exit code. It parses args, the arguments
// without the program's name, into commands, which is a pointer to a struct as
// kong expects it, and adds the flags --log-format and --version. Then it calls
// the method Run of the command that args choose. That method returns an error,
// and takes any of these parameters, in any order:
//
//   - the context.Context ctx
//   - the [Output] o
//   - a *slog.Logger that writes to o.Stderr in the chosen format
//   - the [LogFormat] that was chosen
//   - pointers to the structs around the command, such as commands
//
// A command whose flags don't fit together returns an error from its method
// Validate, which is called before Run. That is wrong usage, and so is every
// error of Run that wraps [ErrUsage].
//
// A flag with the tag secret:"" and a variable env:"NAME" can be given as a
// file as well: NAME_FILE names it, and its content without the blanks around
// it is the value.
func Run(ctx context.Context, name, description string, commands any, args []string, o Output) int {
	var common commonFlags
	exited := -1
	parser, err := kong.New(commands, kong.Name(name), kong.Description(description), kong.Embed(&common),
		kong.Vars{"version": name + " " + Version()}, kong.Writers(o.Stdout, o.Stderr), kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Help(help), kong.ValueFormatter(formatHelp),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), mapper(time.ParseDuration, "a duration such as 72h or 30m")),
		kong.TypeMapper(reflect.TypeFor[netip.Prefix](), mapper(netip.ParsePrefix, "networks such as 10.0.0.0/8, separated by commas")),
		kong.Resolvers(kong.ResolverFunc(resolveSecret)))
	if err != nil {
		return report(name, name, err, o)
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help or --version was asked for, and given
	}
	if err != nil {
		command, fault := name, err
		if failed, ok := errors.AsType[*kong.ParseError](err); ok {
			command, fault = commandOf(failed.Context), withVariables(failed)
		}
		return report(name, command, fmt.Errorf("%w: %w", ErrUsage, fault), o)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return report(name, commandOf(parsed), parsed.Run(o, common.LogFormat.logger(o.Stderr), common.LogFormat), o)
}

// mapper returns how kong reads the values of a type. The errors of the standard
// library say what a value lacks, to whoever knows its form already; wanted
// tells the others what to write.
func mapper[T any](parse func(string) (T, error), wanted string) kong.MapperFunc {
	return func(values *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := values.Scan.PopValueInto("value", &text); err != nil {
			return err
		}
		value, err := parse(text)
		if err != nil {
			return fmt.Errorf("must be %s, not %q", wanted, text)
		}
		target.Set(reflect.ValueOf(value))
		return nil
	}
}

// help prints the help that was asked for. A program's own help is followed by
// that of its default command, because the settings of that command are the
// program's.
func help(options kong.HelpOptions, asked *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, asked); err != nil {
		return err
	}
	byDefault := asked.Model.DefaultCmd
	if asked.Selected() != nil || byDefault == nil || len(byDefault.Flags) == 0 {
		return nil
	}
	command, err := kong.Trace(asked.Kong, []string{byDefault.Name})
	if err != nil {
		return fmt.Errorf("finding the command %s: %w", byDefault.Name, err)
	}
	fmt.Fprintln(asked.Stdout)
	return kong.DefaultHelpPrinter(options, command)
}

// commandOf returns the words whose help explains the command that was called,
// as far as there was one. The program's own help explains its default command,
// which kong also selects for a word that is no command.
func commandOf(parsed *kong.Context) string {
	if command := parsed.Selected(); command != nil && command != parsed.Model.DefaultCmd {
		return command.FullPath()
	}
	return parsed.Model.Name
}

// withVariables returns the error with the variables that can be set instead of
// the flags that it misses.
func withVariables(failed *kong.ParseError) error {
	text := failed.Error()
	if !strings.HasPrefix(text, "missing flags: ") {
		return failed
	}
	for _, flag := range failed.Context.Flags() {
		if !flag.Required || flag.Set || len(flag.Envs) == 0 {
			continue
		}
		how := " (or set " + flag.Envs[0]
		if file := secretFile(flag.Value); file != "" {
			how += ", or " + file + " to the name of a file that holds it"
		}
		text = strings.Replace(text, flag.Summary(), flag.Summary()+how+")", 1)
	}
	return errors.New(text)
}

// report prints an error of a command in one line and returns the exit code.
func report(name, command string, err error, o Output) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		fmt.Fprintf(o.Stderr, "%s: %v\nRun %s --help for its usage.\n", name, err, command)
		return 2
	default:
		fmt.Fprintf(o.Stderr, "%s: %v\n", name, err)
		return 1
	}
}
