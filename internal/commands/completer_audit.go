package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/audit"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
)

type completerAudit struct {
	databaseFlags
	stripeCallFlags
	jsonFlags
	StripeAPIKey string `help:"Stripe's secret key. Not needed with --no-stripe." name:"stripe-api-key" env:"STRIPE_API_KEY" secret:"" placeholder:"sk_test_…"`

	Stripe  bool          `help:"Compare with Stripe's lists of payment intents and refunds; on unless --no-stripe is given." default:"true" negatable:""`
	Since   time.Duration `help:"How far back rides are compared with Stripe's lists. These are read from 30 days before that, 100 payments or refunds a request." default:"48h"`
	Overdue time.Duration `help:"How late what is due may be: an unfinished key, a job, an event of Stripe's, a late refund, the closing of a declined payment." default:"10m"`
	Limit   int           `help:"Maximum number of findings to list for one check." default:"100"`
}

// stripeBegan is the year of Stripe's first payments. Stripe itself refuses
// times before 1970, in words that name none of our flags.
const stripeBegan = 2011

// Validate refuses settings that make no sense.
func (c *completerAudit) Validate() error {
	if c.Since <= 0 || c.Overdue <= 0 || c.Limit < 1 {
		return errors.New("--since, --overdue and --limit must be positive")
	}
	if time.Now().Add(-c.Since).Year() < stripeBegan {
		return fmt.Errorf("--since must not reach back beyond the year %d, when Stripe began", stripeBegan)
	}
	if c.Stripe && c.StripeAPIKey == "" {
		return errors.New("missing --stripe-api-key (STRIPE_API_KEY); without one, --no-stripe looks at the database only")
	}
	if c.Stripe {
		return c.checkStripeWith(c.StripeAPIKey)
	}
	return nil
}

// Run makes one audit, and fails when it finds anything. The findings go to
// stdout, one line each; progress goes to stderr.
func (c *completerAudit) Run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	return c.withPool(ctx, "audit", func(pool *pgxpool.Pool) error {
		auditor := audit.Auditor{
			Pool: pool, StripeSince: c.Since, Overdue: c.Overdue, Limit: c.Limit,
			Progress: func(check audit.Check) {
				fmt.Fprintf(o.Stderr, "%-28s %4d findings %7.1f s\n", check.Name, check.Findings, check.Seconds)
			},
		}
		if c.Stripe {
			stripe, err := c.openStripeWith(c.StripeAPIKey, log, nil)
			if err != nil {
				return err
			}
			auditor.Stripe = stripe
			if auditor.Realm, err = payments.PinnedRealm(ctx, stripe, pool); err != nil {
				return err
			}
		}
		report, err := auditor.Run(ctx)
		if err != nil {
			return err
		}
		if err := o.Print(c.JSON, report, findingLines(report, c.Limit)); err != nil {
			return err
		}
		return summarize(report, o)
	})
}

// findingLines returns the findings of a report, one line each, and at most
// limit of one check. A line says how many more there are: a list that is cut
// silently reads as if it were complete.
func findingLines(report audit.Report, limit int) string {
	var lines strings.Builder
	left := report.Findings
	for _, check := range report.Checks {
		shown := min(check.Findings, limit)
		for _, finding := range left[:shown] {
			lines.WriteString(finding.String() + "\n")
		}
		left = left[shown:]
		if more := check.Findings - shown; more > 0 {
			fmt.Fprintf(&lines, "… and %d more of %s: --limit shows more\n", more, check.Name)
		}
	}
	return lines.String()
}

// summarize prints the totals of a report, and returns an error when it has
// findings.
func summarize(report audit.Report, o cli.Output) error {
	total := 0
	for _, check := range report.Checks {
		total += check.Findings
	}
	fmt.Fprintf(o.Stderr, "%d keys, %d rides and %d payment intents: %d findings in %d checks\n",
		report.Keys, report.Rides, report.Intents, total, len(report.Checks))
	if total > 0 {
		return fmt.Errorf("the audit found %d violations", total)
	}
	return nil
}
