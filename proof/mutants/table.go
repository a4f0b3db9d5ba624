package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// writeTable writes the outcomes as a table in Markdown.
func writeTable(out io.Writer, outcomes []outcome) {
	fmt.Fprintln(out, "| mutant | invariant | rule that it breaks | killer | seconds |")
	fmt.Fprintln(out, "|---|---|---|---|--:|")
	for _, o := range outcomes {
		killer := names(o.mutant.killers)
		if !o.killed() {
			killer = o.verdict()
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %.1f |\n", o.mutant.name, strings.Join(o.mutant.invariants, " "), o.mutant.rule, killer, o.took.Seconds())
	}
}

// names lists tests, each after the folder of its package.
func names(tests []test) string {
	var list []string
	for _, one := range tests {
		list = append(list, strings.TrimPrefix(one.folder, "./")+" "+one.name)
	}
	return strings.Join(list, ", ")
}

// byName returns the names of tests, sorted, each once.
func byName(tests []test) []string {
	seen := map[string]bool{}
	for _, one := range tests {
		seen[one.name] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// byFolder groups tests by the folder of their package.
func byFolder(tests []test) map[string][]test {
	folders := map[string][]test{}
	for _, one := range tests {
		folders[one.folder] = append(folders[one.folder], one)
	}
	for folder, list := range folders {
		slices.SortFunc(list, func(a, b test) int { return cmp.Compare(a.name, b.name) })
		folders[folder] = slices.Compact(list)
	}
	return folders
}
