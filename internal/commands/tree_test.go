package commands

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// kong looks for a command's Run and for its parameters only when the command
// is called, so a mistake there would wait for the first operator who calls it.
func TestEveryCommandHasARunThatKongCanCall(t *testing.T) {
	t.Parallel()
	given := []reflect.Type{reflect.TypeFor[context.Context](), reflect.TypeFor[cli.Output](), reflect.TypeFor[*slog.Logger]()}
	for name, commands := range map[string]any{"api": new(apiCommands), "completer": new(completerCommands)} {
		parser, err := kong.New(commands, kong.Name(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range parser.Model.Leaves(false) {
			run := command.Target.Addr().MethodByName("Run")
			if !run.IsValid() {
				t.Errorf("%s has no method Run", command.FullPath())
				continue
			}
			for parameter := range run.Type().Ins() {
				if !slices.Contains(given, parameter) {
					t.Errorf("%s: nothing gives Run its %s", command.FullPath(), parameter)
				}
			}
		}
	}
}
