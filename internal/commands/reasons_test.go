package commands

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOperatorsCanReadWhatKeysAreParkedFor: docs/operating.md has a row for each
// reason in the code, and no other.
func TestOperatorsCanReadWhatKeysAreParkedFor(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(document), "| reason | what it means | what to do |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| .+ \\| .+ \\|$").FindAllStringSubmatch(table, -1) {
		got = append(got, row[1])
	}
	slices.Sort(got)
	if diff := cmp.Diff(parkReasons(t), got); diff != "" {
		t.Errorf("the reasons in the code and those in the table differ (-code +table):\n%s", diff)
	}
}

// parkReasons returns every reason for which the code parks a key, sorted.
func parkReasons(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, folder := range []string{"phases", "payments", "rides"} {
		paths, err := filepath.Glob("../" + folder + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s has %d files, %v", folder, len(paths), err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				for _, reason := range reasonsIn(n) {
					found[reason] = true
				}
				return true
			})
		}
	}
	return slices.Sorted(maps.Keys(found))
}

var (
	reasonName    = regexp.MustCompile(`^([Pp]ark|[Rr]eason)[A-Z]`)
	writtenReason = regexp.MustCompile(`parked_reason\s*=\s*'(\w+)'`)
)

// reasonsIn returns the reasons in one node of the code: the values of constants
// such as parkMismatch and ReasonWindow, and texts that are given to Park, or as
// the reason of a result or an ending, or that a statement writes.
func reasonsIn(n ast.Node) (found []string) {
	var texts []ast.Expr
	switch n := n.(type) {
	case *ast.ValueSpec:
		if reasonName.MatchString(n.Names[0].Name) {
			texts = n.Values
		}
	case *ast.CompositeLit:
		texts = reasonOf(n)
	case *ast.CallExpr:
		if name, ok := n.Fun.(*ast.SelectorExpr); ok && name.Sel.Name == "Park" {
			texts = n.Args[:1]
		}
	case *ast.BasicLit:
		for _, written := range writtenReason.FindAllStringSubmatch(n.Value, -1) {
			found = append(found, written[1])
		}
	}
	for _, text := range texts {
		if literal, ok := text.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			found = append(found, strings.Trim(literal.Value, "`\""))
		}
	}
	return found
}

// reasonOf returns what a composite literal gives as its reason. That of a
// released key, or of a body that is no JSON, parks nothing.
func reasonOf(of *ast.CompositeLit) (texts []ast.Expr) {
	for _, element := range of.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		switch {
		case !ok:
		case fmt.Sprint(pair.Value) == "endReleased" || strings.Contains(fmt.Sprint(of.Type), "JSONError"):
			return nil
		case strings.EqualFold(fmt.Sprint(pair.Key), "reason"):
			texts = append(texts, pair.Value)
		}
	}
	return texts
}
