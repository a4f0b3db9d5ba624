// Package docs_test checks that the documents speak of what exists.
package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/api"
)

// root is the top of the repository, seen from this folder.
const root = ".."

// A document is one Markdown file. Prose is the text outside of fenced code
// blocks, and code the text inside of them.
type document struct {
	path        string
	prose, code string
}

// documents returns every Markdown file of the repository.
func documents(t *testing.T) []document {
	t.Helper()
	var found []document
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && strings.HasPrefix(name, ".") && path != root && name != ".github" {
			return filepath.SkipDir // .git, and the data of a sandbox
		}
		if entry.IsDir() || filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		d := document{path: path}
		for i, part := range strings.Split(string(text), "```") {
			if i%2 == 0 {
				d.prose += part
			} else {
				d.code += part
			}
		}
		found = append(found, d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// matches returns what the first group of pattern matches in text.
func matches(pattern, text string) []string {
	var found []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestRelativeLinksResolve leaves links with a scheme to whoever wrote them: a
// test must not depend on the network.
func TestRelativeLinksResolve(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, d := range documents(t) {
		for _, link := range matches(`\]\(([^)\s]+)\)`, d.prose) {
			if strings.Contains(link, ":") {
				continue
			}
			checked++
			file, heading, _ := strings.Cut(link, "#")
			target := d.path
			if file != "" {
				target = filepath.Join(filepath.Dir(d.path), file)
			}
			if !exists(target) {
				t.Errorf("%s links to %s, which does not exist", d.path, link)
			} else if heading != "" && !slices.Contains(anchors(t, target), heading) {
				t.Errorf("%s links to %s, and there is no such heading", d.path, link)
			}
		}
	}
	if checked < 10 {
		t.Errorf("%d links were found, which cannot be all", checked)
	}
}

// anchors returns the names that GitHub gives to the headings of a document.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, heading := range matches(`(?m)^#+ (.*)$`, string(text)) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

func TestMakeTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := matches(`(?m)^([a-z-]+):.*## `, string(makefile))
	checked := 0
	for _, d := range documents(t) {
		named := append(matches("`make\\s+([a-z-]+)", d.prose), matches(`(?m)^\s*make ([a-z-]+)`, d.code)...)
		for _, target := range named {
			checked++
			if !slices.Contains(targets, target) {
				t.Errorf("%s names make %s, and the Makefile has %v", d.path, target, targets)
			}
		}
	}
	if checked < 10 {
		t.Errorf("%d targets were found, which cannot be all", checked)
	}
}

// TestPathsExist looks at the paths in backquotes that begin at the top of the
// repository.
func TestPathsExist(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, d := range documents(t) {
		for _, path := range matches("`((?:cmd|deploy|docs|examples|internal|migrations|proof|\\.ci|\\.github)/[^`\\s]*)`", d.prose) {
			checked++
			if found, err := filepath.Glob(filepath.Join(root, path)); len(found) == 0 || err != nil {
				t.Errorf("%s names %s, which does not exist (%v)", d.path, path, err)
			}
		}
	}
	if checked < 10 {
		t.Errorf("%d paths were found, which cannot be all", checked)
	}
}

// TestSnippetsAreOfTheCode holds the Go of documents against the code that it
// was taken from, which compiles.
func TestSnippetsAreOfTheCode(t *testing.T) {
	t.Parallel()
	checkSnippets(t, "add-a-flow.md", 9, "examples/order/*.go", "proof/crash/order*.go", "internal/rides/service.go")
	checkSnippets(t, "how-it-works.md", 1, "internal/rides/hail.go")
	checkSnippets(t, "fakestripe.md", 1, "docs/examples/fakestripe/*.go")
}

// checkSnippets looks for each of n snippets of a document in some files.
func checkSnippets(t *testing.T, document string, n int, patterns ...string) {
	t.Helper()
	var code strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	snippets := matches("(?s)```go\n(.*?)```", string(text))
	for _, snippet := range snippets {
		if !strings.Contains(code.String(), snippet) {
			t.Errorf("%s shows what is not in the code:\n%s", document, snippet)
		}
	}
	if len(snippets) != n {
		t.Errorf("%s has %d snippets, want %d", document, len(snippets), n)
	}
}

// TestTheClientIsOfUseInAModuleOfYourOwn: the commands of docs/integrate.md
// point a new module at a clone.
func TestTheClientIsOfUseInAModuleOfYourOwn(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("integrate.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := matches("(?s)```sh\n(go mod edit.*?)```", string(text))
	if len(commands) != 1 {
		t.Fatal(commands)
	}
	clone, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	mine := filepath.Join(folder, "mine")
	program := "package main\n\nimport \"github.com/rocketrides/rocketrides/client\"\n\nfunc main() { _ = client.NewKey() }\n"
	err = errors.Join(os.Symlink(clone, filepath.Join(folder, "rocketrides")), os.Mkdir(mine, 0o755),
		os.WriteFile(filepath.Join(mine, "main.go"), []byte(program), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-ec", "go mod init example.com/mine\n"+commands[0]+"go build")
	shell.Dir = mine
	if output, err := shell.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// TestEveryCodeIsInTheGuide: docs/integrate.md has a row for each code that a
// problem may have, and its status.
func TestEveryCodeIsInTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("integrate.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, code := range matches("(?m)^        - ([a-z_]+)$", string(api.Document())) {
		var problem struct{ Status int }
		if err := json.Unmarshal(api.Example(code), &problem); err == nil && problem.Status >= 400 {
			want = append(want, fmt.Sprintf("%d | `%s`", problem.Status, code))
		}
	}
	got := matches("(?m)^\\| (\\d+ \\| `[a-z_]+`) \\| .* \\| .* \\|$", string(guide))
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nand the OpenAPI document has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
