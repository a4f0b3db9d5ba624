package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rocketrides/rocketrides/proof/invariants"
)

// A check is one rule, how many things were held against it, and what broke it.
type check struct {
	name string
	// invariants are the numbers of the invariants that the rule follows from.
	// A rule of the contract's or a goal has none.
	invariants []string
	looked     int
	broken     []string
	// seldom is set if even a full run may have nothing to look at.
	seldom bool
}

func newCheck(name string, invariants ...string) check {
	return check{name: name, invariants: invariants}
}

// breaks adds a violation.
func (c *check) breaks(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

func (c check) ok() bool { return len(c.broken) == 0 }

// status returns the result of a check in one word.
func (c check) status() string {
	switch {
	case !c.ok():
		return "BROKEN"
	case c.looked == 0:
		return "nothing"
	default:
		return "ok"
	}
}

// failEmpty fails every check that had nothing to look at in a full run, unless it
// is seldom. Such a check would also pass if the service did nothing.
func failEmpty(checks []check) {
	for i := range checks {
		if c := &checks[i]; c.looked == 0 && !c.seldom {
			c.breaks("it had nothing to look at in a full run")
		}
	}
}

// verdict prints the table of all checks, the invariants that it cites, and the
// first violations of each check. It reports whether there are none.
func verdict(out io.Writer, checks []check, list invariants.List) bool {
	const shown = 5
	ok := true
	var cited []string
	fmt.Fprintf(out, "\n%-58s %-10s %9s %9s\n", "CHECK", "INVARIANTS", "LOOKED AT", "BROKEN")
	for _, c := range checks {
		ok = ok && c.ok()
		cited = append(cited, c.invariants...)
		fmt.Fprintf(out, "%-58s %-10s %9d %9d  %s\n", c.name, strings.Join(c.invariants, " "), c.looked, len(c.broken), c.status())
	}
	fmt.Fprintf(out, "\n%s\n", list.Legend(cited...))
	for _, c := range checks {
		for i, text := range c.broken {
			if i == shown {
				fmt.Fprintf(out, "  %s: and %d more\n", c.name, len(c.broken)-shown)
				break
			}
			fmt.Fprintf(out, "  %s: %s\n", c.name, text)
		}
	}
	return ok
}

// keep writes all violations, and the facts in which they were found, to files.
func keep(dir string, checks []check, f *facts) error {
	var text strings.Builder
	for _, c := range checks {
		for _, b := range c.broken {
			fmt.Fprintf(&text, "%s: %s\n", c.name, b)
		}
	}
	errs := []error{os.WriteFile(filepath.Join(dir, "violations.txt"), []byte(text.String()), 0o600)}
	for name, rows := range map[string]any{
		"keys": slices.Collect(maps.Values(f.keys)), "rides": slices.Collect(maps.Values(f.rides)),
		"cancels": slices.Collect(maps.Values(f.cancels)), "changes": f.changes, "sends": f.sends, "intents": f.intents, "refunds": f.refunds,
		"told": f.told, "inbox": f.inbox,
	} {
		encoded, err := json.MarshalIndent(rows, "", " ")
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, name+".json"), encoded, 0o600))
	}
	return errors.Join(errs...)
}
