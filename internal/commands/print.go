package commands

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// jsonFlags are the flags of every command that prints a result for people or
// for programs.
type jsonFlags struct {
	JSON bool `help:"Print JSON." name:"json"`
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

// timestamp formats a time for people: RFC 3339 in UTC, without fractions.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
