// Command mutants shows that the tests notice when a rule is broken. Each patch
// in this folder breaks one rule of the service on purpose, and names the tests
// that must fail then. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/proof/invariants"
)

// folder is where the patches are, relative to the root of the repository.
const folder = "proof/mutants"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tries the mutants that args select, and prints to out how each ended. It
// returns an error if a mutant survived, if the canary did not, or if one could
// not be tried.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	chosen := flags.String("run", "", "try only mutants whose name matches this regular `expression`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*chosen)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	list, err := invariants.Read(".")
	if err != nil {
		return fmt.Errorf("%w; run this in the root of the repository", err)
	}
	mutants, err := readMutants(folder, pattern)
	if err != nil {
		return err
	}
	tree, err := copyTree(ctx)
	if err != nil {
		return err
	}
	defer tree.remove()
	if err := tryAll(ctx, tree, mutants, out); err != nil {
		return err
	}
	var cited []string
	for _, m := range mutants {
		cited = append(cited, m.invariants...)
	}
	fmt.Fprintf(out, "\n%s", list.Legend(cited...))
	return nil
}

// tryAll runs the tests on the unchanged tree, then each mutant, and then the
// tests on the unchanged tree once more.
func tryAll(ctx context.Context, tree *tree, mutants []mutant, out io.Writer) error {
	start := time.Now()
	fmt.Fprintf(out, "%d mutants, in a copy of the tree in %s\n", len(mutants), tree.dir)
	if err := tree.healthy(ctx, mutants, out); err != nil {
		return err
	}
	outcomes, err := tryEach(ctx, tree, mutants, out)
	if err != nil {
		return err
	}
	// A test that could not get its Postgres fails as well. If it still passes
	// on the unchanged tree, the mutant was the reason.
	if err := tree.healthy(ctx, mutants, out); err != nil {
		return fmt.Errorf("after the last mutant, so no kill can be trusted: %w", err)
	}
	fmt.Fprintln(out)
	writeTable(out, outcomes)
	wrong := 0
	for _, done := range outcomes {
		if !done.asExpected() {
			wrong++
		}
	}
	fmt.Fprintf(out, "\n%d of %d mutants ended as expected, in %s.\n", len(outcomes)-wrong, len(outcomes), time.Since(start).Round(time.Second))
	if wrong > 0 {
		return fmt.Errorf("%d mutants did not end as expected", wrong)
	}
	return nil
}

// tryEach tries one mutant after the other, and returns how each ended.
func tryEach(ctx context.Context, tree *tree, mutants []mutant, out io.Writer) ([]outcome, error) {
	outcomes := make([]outcome, 0, len(mutants))
	for i, m := range mutants {
		fmt.Fprintf(out, "[%d/%d] %s: ", i+1, len(mutants), m.name)
		done, err := tree.try(ctx, m)
		if err != nil {
			fmt.Fprintln(out)
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(out, "%s, %.1f s\n", done.verdict(), done.took.Seconds())
		if done.trouble != nil {
			fmt.Fprintln(out, done.trouble)
		}
		outcomes = append(outcomes, done)
	}
	return outcomes, nil
}
