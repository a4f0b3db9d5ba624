// Package audit checks the invariants of a live database, and compares it with
// what Stripe has. It reads only, and may run beside everything else.
//
// Each check is one line of a table (database.go): an invariant as a sentence,
// and the query that returns what violates it. What needs Stripe's list is in
// stripe.go.
package audit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// A Finding is one violation of an invariant.
type Finding struct {
	// Check is the name of the invariant.
	Check   string `json:"check"`
	Account string `json:"account,omitempty"`
	Key     string `json:"key,omitempty"`
	Ride    string `json:"ride,omitempty"`
	// Detail says in a few words what is wrong.
	Detail string `json:"detail"`
}

// String is the finding as one line.
func (f Finding) String() string {
	var line strings.Builder
	line.WriteString(f.Check)
	for _, part := range []struct{ name, value string }{
		{"account", f.Account}, {"key", f.Key}, {"ride", f.Ride},
	} {
		if part.value != "" {
			fmt.Fprintf(&line, " %s=%q", part.name, part.value)
		}
	}
	line.WriteString(": " + f.Detail)
	return line.String()
}

// A Check is what came of one invariant.
type Check struct {
	Name string `json:"name"`
	// Rule is the invariant as a sentence.
	Rule string `json:"rule"`
	// Findings counts the violations, at most Auditor.Limit of which are
	// listed.
	Findings int     `json:"findings"`
	Seconds  float64 `json:"seconds"`
}

// Report is the outcome of an audit.
type Report struct {
	Keys     int64     `json:"keys"`
	Rides    int64     `json:"rides"`
	Intents  int       `json:"payment_intents"`
	Checks   []Check   `json:"checks"`
	Findings []Finding `json:"findings"`
}

// An Auditor audits one database.
type Auditor struct {
	Pool *pgxpool.Pool
	// Stripe is asked for its list; nil leaves Stripe out.
	Stripe *payments.Stripe
	// StripeSince is how far back Stripe's list is read.
	StripeSince time.Duration
	// Overdue is how long after its time an unfinished key may still be waited
	// for.
	Overdue time.Duration
	// Limit is how many findings of one check are listed.
	Limit int
	// Progress is called after each check; nil means that nobody follows.
	Progress func(Check)
}

// Run makes every check. An error means that the audit could not be made;
// findings are no error. The database is read in one snapshot, without locks.
func (a Auditor) Run(ctx context.Context) (Report, error) {
	report := Report{Findings: []Finding{}}
	if a.Stripe != nil {
		if err := a.compareWithStripe(ctx, &report); err != nil {
			return report, err
		}
	}
	err := pgx.BeginTxFunc(ctx, a.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error { return a.checkDatabase(ctx, tx, &report) })
	if err != nil {
		return report, fmt.Errorf("auditing database: %w", err)
	}
	return report, nil
}

// add notes what came of one check.
func (a Auditor) add(report *Report, name, rule string, began time.Time, found []Finding) {
	check := Check{Name: name, Rule: rule, Findings: len(found), Seconds: time.Since(began).Seconds()}
	report.Checks = append(report.Checks, check)
	report.Findings = append(report.Findings, found[:min(len(found), a.Limit)]...)
	if a.Progress != nil {
		a.Progress(check)
	}
}
