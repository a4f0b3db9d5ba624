// Package cmd_test looks at what the programs are made of.
package cmd_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What runs in production holds no fake, no server for tests and no test
// library: each would be code that nobody needs there and that a mistake could
// reach.
func TestProgramsHoldNothingOfTheTests(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./api", "./completer").Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	packages := strings.Fields(string(list))
	if len(packages) < 100 {
		t.Fatalf("the list has %d packages, and cannot be all", len(packages))
	}
	unwanted := regexp.MustCompile(`fakestripe|pgserver|pgtest|webtest|rocketrides/proof|embedded-postgres|lib/pq|testcontainers|^testing$|httptest|go-cmp|rapid`)
	for _, name := range packages {
		if unwanted.MatchString(name) {
			t.Errorf("%s is part of api or completer", name)
		}
	}
}
