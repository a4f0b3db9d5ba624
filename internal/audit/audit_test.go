package audit

import (
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

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

// TestLimitsAreThoseOfEveryNode asks where the rows are, which on Citus is on
// several workers.
func TestLimitsAreThoseOfEveryNode(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO accounts (id, email, stripe_customer, payment_method, livemode, callback_secret)
		SELECT 'acct_' || i, '', '', '', false, '' FROM generate_series(1, 20) i`)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if err := setLimits(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	var shortest, longest string
	err = tx.QueryRow(t.Context(), `SELECT min(current_setting('statement_timeout')), max(current_setting('statement_timeout')) FROM accounts`).
		Scan(&shortest, &longest)
	if err != nil || shortest != "10min" || longest != "10min" {
		t.Errorf("a query may take from %s to %s (%v), want 10min", shortest, longest, err)
	}
}
