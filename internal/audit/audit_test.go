package audit

import (
	"regexp"
	"strings"
	"testing"
)

// What the checks find is tested with a whole database, by the tests of
// completer audit.
func TestEveryCheckNamesItsInvariant(t *testing.T) {
	t.Parallel()
	checks := stripeChecks()
	for _, q := range queries() {
		checks = append(checks, q.check)
	}
	number := regexp.MustCompile(`^I([1-9]|1[0-9]|2[0-7])$`)
	seen := map[string]bool{}
	for _, c := range checks {
		if !number.MatchString(c.invariant) {
			t.Errorf("%s shows %q, which is not the number of an invariant", c.name, c.invariant)
		}
		if !strings.HasSuffix(c.rule, ".") {
			t.Errorf("the rule of %s is not a sentence: %q", c.name, c.rule)
		}
		if seen[c.name] {
			t.Errorf("two checks are named %s", c.name)
		}
		seen[c.name] = true
	}
}
