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
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/rides"
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

// The client has types of its own, because it imports no code of the server.
// They have the same members.
func TestTheTypesAreTheServers(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string][2]any{
		"Ride": {client.Ride{}, rides.Ride{}}, "Point": {client.Point{}, rides.Point{}}, "Money": {client.Money{}, rides.Money{}},
		"Charge": {client.Charge{}, rides.Charge{}}, "Refund": {client.Refund{}, rides.Refund{}}, "Failure": {client.Failure{}, rides.Failure{}},
	} {
		if got, want := members(reflect.TypeOf(pair[0])), members(reflect.TypeOf(pair[1])); !slices.Equal(got, want) {
			t.Errorf("%s has %q, the server's has %q", name, got, want)
		}
	}
	got, want := codes(t, "problem.go"), codes(t, "../internal/web/problem.go")
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the codes are %q, the server's are %q", got, want)
	}
}

// members returns the names of a type in JSON, those of embedded types too.
func members(of reflect.Type) []string {
	var names []string
	for field := range of.Fields() {
		if field.Anonymous {
			names = append(names, members(field.Type)...)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// codes returns the codes that a file declares, in order.
func codes(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile(`(?m)^\tCode\w+\s+Code = "(\w+)"$`).FindAllStringSubmatch(string(text), -1) {
		found = append(found, match[1])
	}
	return found
}
