package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
)

type apiStripeAccount struct {
	Move         bool   `help:"From now on charges go to the account of the Stripe key. Refused while keys, declined payments or events of the present account are unfinished. Stop every api and completer first, and start them with the new key."`
	StripeAPIKey string `help:"Stripe's secret key, for --move." name:"stripe-api-key" env:"STRIPE_API_KEY" secret:"" placeholder:"sk_test_…"`
	operatorFlags
	jsonFlags
	stripeCallFlags
	databaseFlags
}

// Validate refuses settings that make no sense.
func (c *apiStripeAccount) Validate() error {
	if !c.Move {
		return nil
	}
	if c.StripeAPIKey == "" {
		return errors.New("missing --stripe-api-key (STRIPE_API_KEY), which chooses the account to move to")
	}
	return c.checkStripeWith(c.StripeAPIKey)
}

// Run prints the accounts, after a move if one was asked for.
func (c *apiStripeAccount) Run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	return c.withPool(ctx, "stripe-account", func(pool *pgxpool.Pool) error {
		if c.Move {
			if err := c.move(ctx, pool, log); err != nil {
				return err
			}
			fmt.Fprintln(o.Stderr, "an api or completer that still runs with a key of the former account charges that one: stop it, and start it with the new key")
		}
		accounts, err := payments.StripeAccounts(ctx, pool)
		if err != nil {
			return err
		}
		return o.Print(c.JSON, accounts, table("STRIPE ACCOUNT\tMODE\tREALM\tSINCE\tUNTIL", accounts, stripeAccountRow))
	})
}

func (c *apiStripeAccount) move(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	stripe, err := c.openStripeWith(c.StripeAPIKey, log, nil)
	if err != nil {
		return err
	}
	id, err := stripe.Account(ctx)
	if err != nil {
		return fmt.Errorf("asking Stripe whose the API key is: %w", err)
	}
	return payments.MoveAccount(ctx, pool, id, stripe.Live(), c.operator())
}

func stripeAccountRow(a payments.StripeAccount) string {
	until := "-"
	if a.LeftAt != nil {
		until = timestamp(*a.LeftAt)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", a.ID, payments.ModeName(a.Livemode), a.Realm, timestamp(a.PinnedAt), until)
}
