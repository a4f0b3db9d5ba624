// Package audit checks the invariants on a live database, and compares it with
// what Stripe has. It only reads, and can run beside the servers.
//
// Each check names the invariant that it shows, by its number in the list of
// package phases. database.go, refunds.go, events.go and jobs.go have the checks
// of one snapshot of the database: tables of queries, each of which returns what
// violates its rule. stripe.go compares Stripe's list of payment intents with
// the rides, refunds.go also its list of refunds. history.go and
// history_queries.go read everything that is recorded of one key.
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
	// Check is the name of the check.
	Check   string `json:"check"`
	Account string `json:"account,omitempty"`
	Key     string `json:"key,omitempty"`
	Ride    string `json:"ride,omitempty"`
	// Detail says in a few words what is wrong.
	Detail string `json:"detail"`
}

// String returns the finding as one line.
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

// A Check is the outcome of one check.
type Check struct {
	Name string `json:"name"`
	// Invariant is the number of the invariant that the check shows.
	Invariant string `json:"invariant"`
	// Rule is what must hold, as a sentence.
	Rule string `json:"rule"`
	// Findings counts the violations. At most Auditor.Limit of them are in the
	// report.
	Findings int     `json:"findings"`
	Seconds  float64 `json:"seconds"`
}

// A check is what is known of a Check before it is made.
type check struct{ name, invariant, rule string }

// Report is the outcome of an audit: the number of keys, rides and payment
// intents that were checked, the checks in the order in which they were made,
// and their findings in the same order.
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
	// Stripe is asked for its payment intents and refunds. If it is nil, the
	// checks that need them are left out.
	Stripe *payments.Stripe
	// Realm is that of the keys that are compared with Stripe's lists, which
	// show one mode of one Stripe account.
	Realm string
	// StripeSince is how far back rides are compared with Stripe's lists, which
	// are read from 30 days before that, for earlier lives of keys.
	StripeSince time.Duration
	// Overdue is how late what is due may be: an unfinished key, a job, an event
	// of Stripe's, a late refund, the closing of a declined payment.
	Overdue time.Duration
	// Limit is the largest number of findings of one check in the report.
	Limit int
	// Progress, if not nil, is called after each check.
	Progress func(Check)
}

// Run makes all checks. An error means that the audit could not be made, not
// that it found something. The checks of the database see one snapshot and take
// no locks.
func (a Auditor) Run(ctx context.Context) (Report, error) {
	report := Report{Findings: []Finding{}}
	if a.Stripe != nil {
		if err := a.compareWithStripe(ctx, &report); err != nil {
			return report, err
		}
	}
	err := readWhole(ctx, a.Pool, func(tx pgx.Tx) error { return a.checkDatabase(ctx, tx, &report) })
	if err != nil {
		return report, fmt.Errorf("auditing database: %w", err)
	}
	return report, nil
}

// add adds the outcome of one check to the report.
func (a Auditor) add(report *Report, c check, began time.Time, found []Finding) {
	outcome := Check{
		Name: c.name, Invariant: c.invariant, Rule: c.rule,
		Findings: len(found), Seconds: time.Since(began).Seconds(),
	}
	report.Checks = append(report.Checks, outcome)
	report.Findings = append(report.Findings, found[:min(len(found), a.Limit)]...)
	if a.Progress != nil {
		a.Progress(outcome)
	}
}
