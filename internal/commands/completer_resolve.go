package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

type completerKeysResolve struct {
	engineFlags
	keyFlags
	operatorFlags
	Charged    string `help:"The payment intent that paid for this ride. It must have succeeded, for this ride, and not be refunded." xor:"decision" placeholder:"pi_…"`
	NotCharged bool   `help:"Nothing was charged. Refused when Stripe has anything that says otherwise." xor:"decision"`
}

// Validate demands one of the two decisions, and refuses settings that make no
// sense.
func (c *completerKeysResolve) Validate() error {
	if c.Charged == "" && !c.NotCharged {
		return errors.New("give --charged pi_… or --not-charged")
	}
	if c.Charged != "" && !isStripeID("pi_", c.Charged) {
		return errors.New("--charged must be the id of a payment intent at Stripe: pi_…")
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
	resolver := rides.Resolver{Engine: parts.engine, Stripe: parts.stripe}
	var result phases.Result
	if c.Charged != "" {
		result, err = resolver.ResolveCharged(ctx, record, c.operator(), c.Charged)
	} else {
		result, err = resolver.ResolveNotCharged(ctx, record, c.operator())
	}
	if err != nil {
		return unresolved(record.Key, err)
	}
	_, err = fmt.Fprintf(o.Stdout, "%s of %s is finished with %d\n", record.Key, record.Account, result.Answer.Status)
	return err
}

// unresolved wraps the error of a decision with what became of it. When the
// database was lost on the way, the decision may have been carried out.
func unresolved(key string, err error) error {
	if errors.Is(err, phases.ErrUnavailable) {
		return fmt.Errorf("it is unclear whether %s was resolved; look with `keys show`: %w", key, err)
	}
	return fmt.Errorf("%s was not resolved, and nothing was changed: %w", key, err)
}
