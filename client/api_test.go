package client_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// Others compile against what is exported. A change of it must be meant: run
// the test with -update, and look at the difference.
func TestTheAPIIsAsPromised(t *testing.T) {
	t.Parallel()
	got := exported(t)
	const golden = "testdata/api.txt"
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the exported declarations differ from %s:\n%s", golden, got)
	}
}

// exported returns the exported declarations of the package, without comments.
func exported(t *testing.T) []byte {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	var declarations []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && !ast.IsExported(receiver(d)) {
					continue
				}
				d.Body = nil
			case *ast.GenDecl:
				if d.Tok == token.IMPORT {
					continue
				}
			}
			var text bytes.Buffer
			if err := printer.Fprint(&text, set, declaration); err != nil {
				t.Fatal(err)
			}
			declarations = append(declarations, text.String()+"\n")
		}
	}
	slices.Sort(declarations)
	return []byte(strings.Join(declarations, "\n"))
}

// receiver returns the name of a method's type.
func receiver(method *ast.FuncDecl) string {
	of := method.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// The client can be imported without anything of the server's, or of anybody
// else's.
func TestTheClientNeedsTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	if got := strings.Fields(string(list)); len(got) != 1 {
		t.Errorf("it needs %q", got)
	}
}
