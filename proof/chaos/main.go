// Command chaos runs the real programs as processes. While many clients ask for
// rides, it kills, freezes, cuts off and misleads everything, and then checks
// the invariants of internal/phases. README.md explains its output.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/rocketrides/proof/invariants"
)

// options is the command line.
type options struct {
	Seed     uint64        `help:"The seed of the schedule and of the clients; 0 picks one." placeholder:"N"`
	Duration time.Duration `help:"How long faults happen, the calm that comes first included; at least ${shortest}." default:"${full}"`
	Clients  int           `help:"How many clients ask." default:"120"`
	Think    time.Duration `help:"How long a client pauses between two keys, about." default:"100ms"`
	Schedule bool          `help:"Print the schedule, and do nothing."`
	Canary   bool          `help:"Run with synchronous_commit off, forced past the start-up check: then a loss must be found."`
	Dir      string        `help:"Where a folder for this run is made; the system's place for temporary files by default." placeholder:"DIR"`
}

// fullRun is how long a run is by default: long enough for every kind of fault.
const fullRun = 10 * time.Minute

// Exit codes.
const (
	exitKept   = 0 // every promise was kept, or the canary found the loss
	exitBroken = 1
	exitFailed = 2 // wrong usage, or an error of chaos itself
)

func main() {
	os.Exit(start(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var o options
	exit := -1
	parser, err := kong.New(&o, kong.Name("chaos"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Description("Kill, freeze and mislead the real programs, and look for a broken promise."),
		kong.Vars{"full": fullRun.String(), "shortest": shortestRun.String()})
	if err == nil {
		_, err = parser.Parse(args)
	}
	if exit >= 0 {
		return exit // --help
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		fmt.Fprintf(stderr, "chaos: %v\n", err)
		return exitFailed
	}
	if o.Seed == 0 {
		o.Seed = freshSeed()
	}
	kept, err := o.run(ctx, stdout)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "chaos: %v\n", err)
		return exitFailed
	case !kept:
		return exitBroken
	default:
		return exitKept
	}
}

// check returns an error if the options make no sense.
func (o options) check() error {
	switch {
	case o.Duration < shortestRun:
		return fmt.Errorf("--duration must be at least %s: the calm, and a storm as long", shortestRun)
	case o.Clients < 1 || o.Think <= 0:
		return errors.New("--clients and --think must be positive")
	default:
		return nil
	}
}

// freshSeed draws a seed that is short enough to be typed.
func freshSeed() uint64 {
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // it never fails
	return 1 + uint64(binary.LittleEndian.Uint32(seed[:]))
}

// run does what the options say, and reports whether every promise was kept,
// or, for a canary, whether the loss was found.
func (o options) run(ctx context.Context, out io.Writer) (kept bool, err error) {
	s := newSchedule(o.Seed, o.Duration)
	if o.Schedule {
		for _, e := range s.events {
			fmt.Fprintln(out, e)
		}
		return true, nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return false, err
	}
	list, err := invariants.Read(root)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "seed %d, %s, %d clients; building the programs\n", o.Seed, s.total, o.Clients)
	dir, err := os.MkdirTemp(o.Dir, "rocketrides-chaos-")
	if err != nil {
		return false, fmt.Errorf("making a folder: %w", err)
	}
	w, err := startSystem(ctx, dir, o.Canary)
	if err != nil && ctx.Err() != nil {
		return false, errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return false, err // the folder stays: its logs may show the reason
	}
	defer func() { err = errors.Join(err, w.close(ctx), tidy(w, kept || ctx.Err() != nil)) }()
	r := &run{options: o, out: out, schedule: s, system: w}
	if err := r.play(ctx); err != nil {
		return false, err
	}
	checks, err := r.judge(ctx)
	if err != nil {
		return false, err
	}
	kept = o.announce(out, checks, verdict(out, checks, list))
	if !kept {
		fmt.Fprintf(out, "all violations, the histories, the facts and the logs are in %s\n", w.history())
		err = keep(w.history(), checks, r.facts)
	}
	return kept, err
}

// announce prints how the run ended, and reports whether it ended well. A
// canary ends well only if the loss was found.
func (o options) announce(out io.Writer, checks []check, ok bool) bool {
	again := fmt.Sprintf("go run ./proof/chaos --seed %d --duration %s", o.Seed, o.Duration)
	if o.Canary {
		lost := false
		for _, c := range checks {
			lost = lost || !c.ok() && slices.Contains([]string{nothingLost, nothingWrong, onRecord}, c.name)
		}
		fmt.Fprintf(out, "\ncanary: the loss was found: %t\nseed %d: %s --canary\n", lost, o.Seed, again)
		return lost
	}
	fmt.Fprintf(out, "\nevery promise was kept: %t\nseed %d: %s\n", ok, o.Seed, again)
	return ok
}

// tidy removes the folder, unless its history must be kept.
func tidy(w *system, well bool) error {
	if !well {
		return nil
	}
	return os.RemoveAll(w.dir)
}
