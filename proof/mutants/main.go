// Command mutants shows that the tests notice when a rule is broken. Each patch
// beside it breaks one rule of the service on purpose and names the tests that
// must fail then. See README.md.
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
)

// folder holds the patches, below the repository's root.
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

// run tries the mutants that args select, and prints to out how each ended. The
// error says that a mutant survived, that the canary didn't, or that something
// could not be tried.
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
	if _, err := os.Stat(folder); err != nil {
		return fmt.Errorf("looking for the patches: %w; run it in the repository's root", err)
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
	return tryAll(ctx, tree, mutants, out)
}

// tryAll tries the tests on the tree as it is, then each mutant, and then the
// tests on the tree once more.
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
	// Once more, because a test that could not get its Postgres has failed,
	// too. What is out of order by now was out of order for some of the
	// mutants.
	if err := tree.healthy(ctx, mutants, out); err != nil {
		return fmt.Errorf("after the last mutant, so that no kill can be believed: %w", err)
	}
	fmt.Fprintln(out)
	writeTable(out, outcomes)
	wrong := 0
	for _, done := range outcomes {
		if !done.asExpected() {
			wrong++
		}
	}
	fmt.Fprintf(out, "\n%d of %d ended as they must, in %s.\n", len(outcomes)-wrong, len(outcomes), time.Since(start).Round(time.Second))
	if wrong > 0 {
		return fmt.Errorf("%d mutants did not end as they must", wrong)
	}
	return nil
}

// tryEach tries one mutant after the other, and says how each ended.
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
