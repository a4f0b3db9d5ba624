package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/rocketrides/rocketrides/internal/commands"
	"github.com/rocketrides/rocketrides/internal/fakestripe/command"
)

const (
	// childArgument, before a program's name, makes this binary that program.
	childArgument = "child"

	// tetherFD is where a child finds its end of the tether: the first file
	// after stdin, stdout and stderr.
	tetherFD = 3
)

// A tether is a pipe whose one end only the sandbox holds. Nothing is ever
// written to it: it ends when the sandbox ends, however that happens, and its
// children end with it. On Linux the kernel kills them besides (see
// child.watch), which also reaches a child that is stopped.
type tether struct {
	child, sandbox *os.File
}

func newTether() (*tether, error) {
	child, sandbox, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	return &tether{child: child, sandbox: sandbox}, nil
}

// cut ends the children that still run. It is also what keeps the file
// reachable: one that is not is closed by its finalizer.
func (t *tether) cut() {
	_ = t.sandbox.Close()
	_ = t.child.Close()
}

// beChild runs one of the programs in this process until the program or the
// sandbox ends, and returns the exit code.
func beChild(ctx context.Context, name string, args []string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(tetherFD, "tether"))
		os.Exit(1)
	}()
	switch name {
	case "api":
		return commands.API(ctx, args, os.Stdout, os.Stderr)
	case "completer":
		return commands.Completer(ctx, args, os.Stdout, os.Stderr)
	case "fakestripe":
		return command.Run(ctx, args, os.Stdout, os.Stderr)
	default:
		fmt.Fprintf(os.Stderr, "the sandbox has no child %q\n", name)
		return 2
	}
}
