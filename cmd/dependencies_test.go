// Package cmd_test checks what the programs consist of.
package cmd_test

import (
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
	unwanted := regexp.MustCompile(`fakestripe|internal/inbox|go-smtp|pgserver|pgtest|webtest|ridestest|rocketrides/proof|embedded-postgres|lib/pq|testcontainers|^testing$|apitest|kin-openapi|httptest|go-cmp|rapid|standard-webhooks`)
	for _, name := range packages {
		if unwanted.MatchString(name) {
			t.Errorf("%s is part of api or completer", name)
		}
	}
}
