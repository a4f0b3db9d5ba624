package commands

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// jsonFlags are the flags of every command that prints a result for people or
// for programs.
type jsonFlags struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// listFlags are the flags of every command that prints a list.
type listFlags struct {
	jsonFlags
	Limit int `help:"Maximum number of lines." default:"1000"`
}

// checkList refuses settings that make no sense.
func (f listFlags) checkList() error {
	if f.Limit < 1 {
		return errors.New("--limit must be positive")
	}
	return nil
}

// wanted is how many rows a list asks for: one more than it prints, to see
// whether there are more. A list that is cut silently reads as if it were
// complete.
func (f listFlags) wanted() int { return min(f.Limit, math.MaxInt-1) + 1 }

// printList prints the rows that a list has got.
func printList[T any](o cli.Output, f listFlags, heading string, rows []T, line func(T) string) error {
	more := len(rows) > f.Limit
	rows = append([]T{}, rows[:min(len(rows), f.Limit)]...) // [] in JSON, not null
	err := o.Print(f.JSON, rows, table(heading, rows, line))
	if err == nil && more && !f.JSON {
		_, err = fmt.Fprintln(o.Stderr, "… and there are more: --limit shows them")
	}
	return err
}

// table lays out rows under a heading. Cells are separated by tabs.
func table[T any](heading string, rows []T, line func(T) string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, row := range rows {
		fmt.Fprintln(w, line(row))
	}
	_ = w.Flush() // a strings.Builder returns no error
	return text.String()
}

// several returns a number with the word for as many.
func several(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// afterOthers returns the error of one of several that an operator has decided
// about in one command, with how many were done before it.
func afterOthers(done int, err error) error {
	if done == 0 {
		return err
	}
	return fmt.Errorf("after %s: %w", several(done, "other", "others"), err)
}

// timestamp formats a time for people: RFC 3339 in UTC, without fractions.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
