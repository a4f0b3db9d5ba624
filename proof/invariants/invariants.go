// Package invariants reads the list of what must hold in the doc comment of
// internal/phases. What the proofs print about an invariant is its number and
// its sentence, and both come from there.
package invariants

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A List has the sentence of each invariant under its number, such as "I5".
type List map[string]string

// entry is the first line of an invariant in the doc comment, and continuation
// a further one.
var (
	entry        = regexp.MustCompile(`^//\t(I\d+) +(\S.*)$`)
	continuation = regexp.MustCompile(`^//\t +(\S.*)$`)
)

// Read reads the list in the repository whose root is at the path root.
func Read(root string) (List, error) {
	text, err := os.ReadFile(filepath.Join(root, "internal/phases/doc.go"))
	if err != nil {
		return nil, fmt.Errorf("reading the invariants: %w", err)
	}
	list, number := List{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if found := entry.FindStringSubmatch(line); found != nil {
			number = found[1]
			list[number] = found[2]
		} else if found := continuation.FindStringSubmatch(line); found != nil && number != "" {
			list[number] += " " + found[1]
		} else {
			number = ""
		}
	}
	if len(list) == 0 {
		return nil, errors.New("reading the invariants: internal/phases/doc.go lists none")
	}
	return list, nil
}

// Legend returns a line for each of the numbers, in order and without
// repetitions: the number and its sentence.
func (l List) Legend(numbers ...string) string {
	sorted := slices.SortedFunc(slices.Values(numbers), func(a, b string) int { return order(a) - order(b) })
	var text strings.Builder
	for _, number := range slices.Compact(sorted) {
		fmt.Fprintf(&text, "%-4s %s\n", number, l[number])
	}
	return text.String()
}

// order is what a number is sorted by.
func order(number string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(number, "I"))
	return n
}
