package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

type completerKeysResolve struct {
	Charged    string `help:"The payment intent that paid for this ride. It must have succeeded, for this ride, and not be refunded in full, unless it is disputed as well." xor:"decision" placeholder:"pi_…"`
	NotCharged bool   `help:"Nothing was charged. Refused when Stripe has anything that says otherwise: all payments of the account's customers since 30 days before the key are read, which takes up to 15 minutes." xor:"decision"`

	Refunded    string `help:"For a cancel: the refund with which all of the fare is back." xor:"decision" placeholder:"re_…"`
	NotRefunded bool   `help:"For a cancel: nothing was given back. Refused when Stripe has anything that says otherwise." xor:"decision"`

	Unverified bool   `help:"Don't ask Stripe, because it can't be asked about this key: the decision is believed as it is. Needs --reason, and --charge with --charged."`
	Reason     string `help:"With --unverified: why Stripe can't be asked, for the audit record." placeholder:"TEXT"`
	Charge     string `help:"With --charged and --unverified: the charge of the payment intent." placeholder:"ch_…"`

	keyFlags
	operatorFlags
	engineFlags
}

// Validate demands one of the decisions, and refuses settings that make no
// sense.
func (c *completerKeysResolve) Validate() error {
	switch {
	case c.Charged == "" && !c.NotCharged && c.Refunded == "" && !c.NotRefunded:
		return errors.New("give --charged pi_… or --not-charged; for a cancel, --refunded re_… or --not-refunded")
	case c.Refunded != "" && !isStripeID("re_", c.Refunded):
		return errors.New("--refunded must be the id of a refund at Stripe: re_…")
	case c.Charged != "" && !isStripeID("pi_", c.Charged):
		return errors.New("--charged must be the id of a payment intent at Stripe: pi_…")
	case c.Unverified != (strings.TrimSpace(c.Reason) != ""):
		return errors.New("--unverified and --reason belong together: the audit record says why Stripe was not asked")
	case c.Unverified && c.Charged != "" && c.Charge == "":
		return errors.New("missing --charge ch_…, the charge of the payment intent: with --unverified Stripe isn't asked for it")
	case c.Charge != "" && (!c.Unverified || c.Charged == ""):
		return errors.New("--charge belongs to --charged with --unverified; without --unverified Stripe is asked for it")
	case c.Charge != "" && !isStripeID("ch_", c.Charge):
		return errors.New("--charge must be the id of a charge at Stripe: ch_…")
	}
	return c.checkEngine()
}

// Run brings a parked key to its end.
func (c *completerKeysResolve) Run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	parts, err := c.open(ctx, "keys", log, nil)
	if err != nil {
		return err
	}
	defer parts.pool.Close()
	record, err := c.find(ctx, parts.pool)
	if err != nil {
		return err
	}
	result, err := c.resolve(ctx, parts, record)
	if err != nil {
		return notDone(record, "resolved", err)
	}
	c.warn(o, record, time.Now())
	_, err = fmt.Fprintf(o.Stdout, "%s of %s is %s\n", record.Key, record.Account, whereResolved(result))
	return err
}

// whereResolved says where a decision has brought its key. No flow of ours has
// a second foreign call, which would be the completer's, but one may.
func whereResolved(result phases.Result) string {
	if result.Pending {
		return "resolved, and due now: the completer takes it next"
	}
	return fmt.Sprint("finished with ", result.Answer.Status)
}

func (c *completerKeysResolve) resolve(ctx context.Context, parts engineParts, record phases.Record) (phases.Result, error) {
	if c.Unverified {
		parts.pin.Assume(record.Realm)
	} else if err := parts.pin.Check(ctx); err != nil {
		return phases.Result{}, err
	}
	r := rides.Resolver{Engine: parts.engine, Stripe: parts.stripe, Accounts: accounts.Store{Pool: parts.pool}}
	if c.Unverified {
		return c.believe(ctx, r, record)
	}
	switch {
	case c.NotCharged:
		return r.ResolveNotCharged(ctx, record, c.operator())
	case c.NotRefunded:
		return r.ResolveNotRefunded(ctx, record, c.operator())
	case c.Refunded != "":
		return r.ResolveRefunded(ctx, record, c.operator(), c.Refunded)
	default:
		return r.ResolveCharged(ctx, record, c.operator(), c.Charged)
	}
}

// believe carries the decision out without asking Stripe.
func (c *completerKeysResolve) believe(ctx context.Context, r rides.Resolver, record phases.Record) (phases.Result, error) {
	switch {
	case c.NotCharged:
		return r.ResolveNotChargedUnverified(ctx, record, c.operator(), c.Reason)
	case c.NotRefunded:
		return r.ResolveNotRefundedUnverified(ctx, record, c.operator(), c.Reason)
	case c.Refunded != "":
		return r.ResolveRefundedUnverified(ctx, record, c.operator(), c.Reason, c.Refunded)
	default:
		return r.ResolveChargedUnverified(ctx, record, c.operator(), c.Reason, c.Charged, c.Charge)
	}
}

// keyLifetime is how long Stripe remembers an idempotency key, at least. See
// https://docs.stripe.com/api/idempotent_requests.
const keyLifetime = 24 * time.Hour

// warn says that a request may still be on its way: Stripe has been asked, and
// could not know of it.
func (c *completerKeysResolve) warn(o cli.Output, record phases.Record, now time.Time) {
	if !c.NotCharged || record.FirstSentAt == nil {
		return
	}
	if ago := now.Sub(*record.FirstSentAt); ago < keyLifetime {
		fmt.Fprintf(o.Stderr, "warning: sent first %s ago: a request still on its way may charge; `completer audit` finds that\n",
			max(ago, 0).Truncate(time.Second))
	}
}

// notDone wraps the error of a decision about a key with what became of it. When
// the database was lost on the way, the decision may have been carried out. done
// says what it does to the key, as in "parked".
func notDone(seen phases.Record, done string, err error) error {
	switch {
	case errors.Is(err, phases.ErrUnavailable):
		return fmt.Errorf("it is unclear whether %s was %s; look with `keys show`: %w", seen.Key, done, err)
	case errors.Is(err, phases.ErrStillCalling):
		return fmt.Errorf("%s was not %s, and nothing was changed: %w%s", seen.Key, done, err, stillCalling(seen, "; that is over at %s"))
	default:
		return fmt.Errorf("%s was not %s, and nothing was changed: %w", seen.Key, done, err)
	}
}
