package command

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const document = "../../../docs/fakestripe.md"

// blocks finds what the document runs, and what it shows after it.
var blocks = regexp.MustCompile("(?s)```sh fake\n(.*?)```\n\n```text output\n(.*?)```")

// TestTheDocumentIsTrue runs every command of docs/fakestripe.md, in one shell,
// and compares what each block prints with what the document shows.
func TestTheDocumentIsTrue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	_, url := start(t, "--events-to", receiver.URL, "--webhook-secret", "whsec_document0123456789abcdef")
	found := blocks.FindAllStringSubmatch(string(text), -1)
	if n := strings.Count(string(text), "```sh fake"); n < 8 || len(found) != n {
		t.Fatalf("%d of %d blocks have an output", len(found), n)
	}
	const mark = "\n@@ next block @@\n"
	var script strings.Builder
	for _, block := range found {
		script.WriteString(block[1] + "printf '" + strings.ReplaceAll(mark, "\n", `\n`) + "'\n")
	}
	shell := exec.CommandContext(t.Context(), "bash", "-u", "-c", script.String())
	shell.Env = append(os.Environ(), "F="+url)
	said, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	printed := strings.Split(string(said), mark)
	for i, block := range found {
		if !shows(block[2], printed[i]) {
			t.Errorf("this block:\n%s\nprinted:\n%s\nand should print:\n%s", block[1], printed[i], block[2])
		}
	}
}

// shows reports whether lines were printed in their order. "…" stands for any
// text.
func shows(want, printed string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(want) {
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*") + `\s*`)
	}
	return regexp.MustCompile(`(?s)^` + pattern.String() + `$`).MatchString(printed)
}

// TestTheDocumentShowsEveryRoute: each route under /_fake has an example.
func TestTheDocumentShowsEveryRoute(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("../control.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	routes := regexp.MustCompile(`HandleFunc\("(\w+) (/_fake[^"]*)"`).FindAllStringSubmatch(string(code), -1)
	for _, route := range routes {
		how := map[string]string{"GET": `curl -s "?\$F` + route[2] + `(\?\S*"|$|\s\|)`, "POST": `curl -s (-X POST )?\$F` + route[2] + `( -d|$)`, "DELETE": `curl -s -X DELETE \$F` + route[2] + `$`}
		if !regexp.MustCompile(`(?m)` + how[route[1]]).Match(text) {
			t.Errorf("docs/fakestripe.md has no example of %s %s", route[1], route[2])
		}
	}
	if len(routes) < 15 {
		t.Errorf("%d routes were found, which cannot be all", len(routes))
	}
}

// TestTheDocumentNamesTestsThatExist looks for the test of each rule.
func TestTheDocumentNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.CommandContext(t.Context(), "grep", "-rhoE", `^func Test\w+`, "..").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
	for _, name := range names {
		if !strings.Contains(string(list), "func "+name[1]+"\n") {
			t.Errorf("there is no test %s", name[1])
		}
	}
	if len(names) < 10 {
		t.Errorf("%d tests are named, which cannot be all", len(names))
	}
}
