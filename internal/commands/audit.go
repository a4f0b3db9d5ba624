package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/audit"
	"github.com/rocketrides/rocketrides/internal/cli"
)

// auditFlags are those of completer audit.
type auditFlags struct {
	databaseFlags
	stripeCallFlags
	jsonFlags
	StripeAPIKey string `help:"Stripe's secret key. Not needed with --no-stripe." name:"stripe-api-key" env:"STRIPE_API_KEY" placeholder:"sk_test_…"`

	Stripe  bool          `help:"Compare with Stripe's list of payment intents; on unless --no-stripe is given." default:"true" negatable:""`
	Since   time.Duration `help:"How far back Stripe's list is read." default:"48h"`
	Overdue time.Duration `help:"How long after its time an unfinished key may still be waited for." default:"10m"`
	Limit   int           `help:"Most findings of one check to list." default:"100"`
}

// Validate refuses nonsense as wrong usage.
func (f *auditFlags) Validate() error {
	if f.Since <= 0 || f.Overdue <= 0 || f.Limit < 1 {
		return errors.New("--since, --overdue and --limit must be positive")
	}
	if f.Stripe && f.StripeAPIKey == "" {
		return errors.New("missing --stripe-api-key (STRIPE_API_KEY); without one, --no-stripe looks at the database only")
	}
	if f.Stripe {
		return f.checkAs(f.StripeAPIKey)
	}
	return nil
}

// run makes one audit. The findings go to stdout, one line each; how it goes on
// goes to stderr.
func (f *auditFlags) run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	pool, err := f.open(ctx, "audit", adminConnections, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	auditor := audit.Auditor{
		Pool: pool, StripeSince: f.Since, Overdue: f.Overdue, Limit: f.Limit,
		Progress: func(c audit.Check) {
			fmt.Fprintf(o.Stderr, "%-28s %4d findings %7.1f s\n", c.Name, c.Findings, c.Seconds)
		},
	}
	if f.Stripe {
		if auditor.Stripe, err = f.openAs(f.StripeAPIKey, log, nil); err != nil {
			return err
		}
	}
	report, err := auditor.Run(ctx)
	if err != nil {
		return err
	}
	if err := o.Print(f.JSON, report, listing(report, f.Limit)); err != nil {
		return err
	}
	return verdict(report, o)
}

// listing is the findings of a report, one line each. Where a check has more
// than limit it says so, for a list that is cut in silence reads as if it were
// whole.
func listing(report audit.Report, limit int) string {
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

// verdict sums an audit up.
func verdict(report audit.Report, o cli.Output) error {
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
