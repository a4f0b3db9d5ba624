package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packageComments returns the comment of each package, by the path of the file
// that it is in.
func packageComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err == nil && file.Doc != nil {
			comments[path] = file.Doc.Text()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return comments
}

// TestPackageCommentsNameTheirFiles: what a package comment names exists, and
// one that lists files leaves none out but tests and the file that it is in.
func TestPackageCommentsNameTheirFiles(t *testing.T) {
	t.Parallel()
	item := regexp.MustCompile(`(?m)^(  - |\t).*\b\w+\.go\b`)
	lists := 0
	for path, comment := range packageComments(t) {
		named := matches(`\b(\w+\.go)(?:\.?\s|[,:;)])`, comment)
		for _, name := range named {
			if !exists(filepath.Join(filepath.Dir(path), name)) {
				t.Errorf("%s names %s, which does not exist", path, name)
			}
		}
		if !item.MatchString(comment) {
			continue
		}
		lists++
		files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if file != path && !strings.HasSuffix(name, "_test.go") && !slices.Contains(named, name) {
				t.Errorf("%s lists files without %s", path, name)
			}
		}
	}
	if lists < 8 {
		t.Errorf("%d lists were found, which cannot be all", lists)
	}
}
