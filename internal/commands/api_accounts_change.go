package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
)

// accountFlags choose one account.
type accountFlags struct {
	Account string `arg:"" help:"The account." placeholder:"acct_…"`
}

type apiAccountsUpdate struct {
	accountFlags
	Email          string `help:"Where receipts go from now on."`
	StripeCustomer string `help:"The customer at Stripe who is charged from now on. The former one is kept: charges are looked for under both." placeholder:"cus_…"`
	PaymentMethod  string `help:"The customer's payment method." placeholder:"pm_…"`
	StripeAPIKey   string `help:"Stripe's secret key, in the account's mode. Not needed with --unverified, nor for --email alone." name:"stripe-api-key" env:"STRIPE_API_KEY" secret:"" placeholder:"sk_test_…"`
	payerFlags
	databaseFlags
}

// Validate refuses a change of nothing, and values that can't belong to an
// account.
func (c *apiAccountsUpdate) Validate() error {
	if c.Email == "" && c.StripeCustomer == "" && c.PaymentMethod == "" {
		return errors.New("give what to change: --email, --stripe-customer or --payment-method")
	}
	if c.asksStripe() && c.StripeAPIKey == "" {
		return errors.New("missing --stripe-api-key (STRIPE_API_KEY); without one, --unverified asks nothing")
	}
	if c.asksStripe() {
		if err := c.checkStripeWith(c.StripeAPIKey); err != nil {
			return err
		}
	}
	return checkAccount(cmp.Or(c.Email, "a@example.com"), cmp.Or(c.StripeCustomer, "cus_x"), cmp.Or(c.PaymentMethod, "pm_x"))
}

// asksStripe reports whether Stripe has to know the account's new customer or
// payment method.
func (c *apiAccountsUpdate) asksStripe() bool {
	return !c.Unverified && (c.StripeCustomer != "" || c.PaymentMethod != "")
}

// Run changes an account.
func (c *apiAccountsUpdate) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		store := accounts.Store{Pool: pool}
		seen, err := store.Get(ctx, c.Account)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		wanted := c.changed(seen)
		if c.asksStripe() {
			if err := c.checkPayerOf(ctx, pool, wanted); err != nil {
				return fmt.Errorf("%s: %w", c.Account, err)
			}
		}
		if err := store.Update(ctx, seen, wanted); err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		_, err = fmt.Fprintf(o.Stdout, "%s is updated, in force everywhere within 30 seconds; rides that have begun keep their customer and card\n", c.Account)
		return err
	})
}

// checkPayerOf is checkPayer for an account. A key of the other mode would find
// no customer.
func (c *apiAccountsUpdate) checkPayerOf(ctx context.Context, pool *pgxpool.Pool, account accounts.Account) error {
	live, err := payments.LiveKey(c.StripeAPIKey)
	if err == nil && live != account.Livemode {
		err = fmt.Errorf("it is a %s account, and the Stripe key is a %s key", payments.ModeName(account.Livemode), payments.ModeName(live))
	}
	if err != nil {
		return err
	}
	return c.checkPayer(ctx, pool, c.StripeAPIKey, account.StripeCustomer, account.PaymentMethod)
}

// changed returns the account as it will be.
func (c *apiAccountsUpdate) changed(account accounts.Account) accounts.Account {
	account.Email = cmp.Or(c.Email, account.Email)
	account.StripeCustomer = cmp.Or(c.StripeCustomer, account.StripeCustomer)
	account.PaymentMethod = cmp.Or(c.PaymentMethod, account.PaymentMethod)
	return account
}

type apiAccountsRotate struct {
	databaseFlags
	accountFlags
	jsonFlags
	Overlap time.Duration `help:"How long callbacks are also signed with the former secret; 0 if somebody else knows it." default:"24h"`
}

// Validate refuses settings that make no sense.
func (c *apiAccountsRotate) Validate() error {
	if c.Overlap < 0 {
		return errors.New("--overlap must not be negative")
	}
	return nil
}

// Run rotates the secret of an account's callbacks, and prints the new one.
func (c *apiAccountsRotate) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		secret, until, err := accounts.Store{Pool: pool}.RotateCallbackSecret(ctx, c.Account, c.Overlap)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		shown := map[string]any{"account_id": c.Account, "callback_secret": secret}
		former := "The former secret signs nothing any more"
		if c.Overlap > 0 {
			shown["former_secret_until"] = until
			former = "Callbacks are also signed with the former secret until " + timestamp(until)
		}
		return o.Print(c.JSON, shown, fmt.Sprintf("callback_secret  %s\nKeep it: it is shown only now. %s.\n", secret, former))
	})
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
