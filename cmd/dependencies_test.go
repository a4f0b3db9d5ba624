// Package cmd_test checks what the programs consist of.
package cmd_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Programs for production contain no fake, no Postgres server for tests and no
// test library: nobody needs that code there, and a mistake could reach it.
func TestProgramsContainNoTestCode(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./api", "./completer").Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	packages := strings.Fields(string(list))
	if len(packages) < 100 {
		t.Fatalf("the list has only %d packages", len(packages))
	}
	unwanted := regexp.MustCompile(`fakestripe|internal/inbox|go-smtp|pgserver|pgtest|webtest|ridestest|rocketrides/(proof|examples)|embedded-postgres|lib/pq|testcontainers|^testing$|apitest|kin-openapi|httptest|go-cmp|rapid|standard-webhooks`)
	for _, name := range packages {
		if unwanted.MatchString(name) {
			t.Errorf("%s is part of api or completer", name)
		}
	}
}

// What the image is built from gets into the build: .dockerignore leaves out
// every folder that it doesn't name.
func TestTheImageHasWhatItIsBuiltFrom(t *testing.T) {
	t.Parallel()
	ignore, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"list", "-deps"}
	for _, program := range regexp.MustCompile(`\./cmd/(\w+)`).FindAllStringSubmatch(string(dockerfile), -1) {
		args = append(args, "./"+program[1])
	}
	list, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	ours := 0
	for name := range strings.FieldsSeq(string(list)) {
		path, found := strings.CutPrefix(name, "github.com/rocketrides/rocketrides/")
		if !found {
			continue
		}
		ours++
		if folder, _, _ := strings.Cut(path, "/"); !strings.Contains(string(ignore), "\n!"+folder+"\n") {
			t.Errorf(".dockerignore leaves out %s", name)
		}
	}
	if ours < 20 {
		t.Errorf("the list has only %d packages of ours", ours)
	}
}
