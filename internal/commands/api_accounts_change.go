package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
)

// accountFlags choose one account.
type accountFlags struct {
	Account string `arg:"" help:"The account." placeholder:"acct_…"`
}

type apiAccountsUpdate struct {
	databaseFlags
	accountFlags
	Email          string `help:"Where receipts go from now on."`
	StripeCustomer string `help:"The customer at Stripe who is charged from now on. The former one is kept: charges are looked for under both." placeholder:"cus_…"`
	PaymentMethod  string `help:"The customer's payment method." placeholder:"pm_…"`
}

// Validate refuses a change of nothing, and values that can't belong to an
// account.
func (c *apiAccountsUpdate) Validate() error {
	if c.Email == "" && c.StripeCustomer == "" && c.PaymentMethod == "" {
		return errors.New("give what to change: --email, --stripe-customer or --payment-method")
	}
	return checkAccount(cmp.Or(c.Email, "a@example.com"), cmp.Or(c.StripeCustomer, "cus_x"), cmp.Or(c.PaymentMethod, "pm_x"))
}

// Run changes an account.
func (c *apiAccountsUpdate) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		store := accounts.Store{Pool: pool}
		seen, err := store.Get(ctx, c.Account)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		if err := store.Update(ctx, seen, c.changed(seen)); err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		_, err = fmt.Fprintf(o.Stdout, "%s is updated, in force everywhere within 30 seconds; rides that have begun keep their customer and card\n", c.Account)
		return err
	})
}

// changed returns the account as it will be.
func (c *apiAccountsUpdate) changed(account accounts.Account) accounts.Account {
	account.Email = cmp.Or(c.Email, account.Email)
	account.StripeCustomer = cmp.Or(c.StripeCustomer, account.StripeCustomer)
	account.PaymentMethod = cmp.Or(c.PaymentMethod, account.PaymentMethod)
	return account
}

type apiAccountsDisable struct {
	databaseFlags
	accountFlags
}

// Run disables an account.
func (c *apiAccountsDisable) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		if err := (accounts.Store{Pool: pool}).Disable(ctx, c.Account); err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		_, err := fmt.Fprintf(o.Stdout, "%s is disabled: within 30 seconds every request of its API keys gets a 401; rides that have begun still end\n", c.Account)
		return err
	})
}

type apiAccountsEnable struct {
	databaseFlags
	accountFlags
}

// Run enables an account.
func (c *apiAccountsEnable) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		if err := (accounts.Store{Pool: pool}).Enable(ctx, c.Account); err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		_, err := fmt.Fprintf(o.Stdout, "%s is enabled: its API keys work again within 30 seconds\n", c.Account)
		return err
	})
}
