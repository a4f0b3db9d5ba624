package commands

import (
	"context"
	"errors"
	"fmt"
	"net/mail"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
)

// payerFlags say whether Stripe is asked about a customer and a payment method.
type payerFlags struct {
	Unverified bool `help:"Don't ask Stripe whether customer and payment method exist and belong together."`
	stripeCallFlags
}

// checkPayer returns an error unless the customer and the payment method exist
// at Stripe and belong together. key is Stripe's.
func (f payerFlags) checkPayer(ctx context.Context, pool *pgxpool.Pool, key, customer, method string) error {
	if f.Unverified {
		return nil
	}
	stripe, err := f.openStripeWith(key, nil, nil)
	if err != nil {
		return err
	}
	if _, err = payments.PinnedRealm(ctx, stripe, pool); err == nil {
		err = stripe.CheckPayer(ctx, customer, method)
	}
	if err != nil {
		return fmt.Errorf("%w; nothing was changed (--unverified asks nothing)", err)
	}
	return nil
}

type apiAccountsCreate struct {
	Email          string `help:"Where receipts go." required:""`
	StripeCustomer string `help:"The customer at Stripe who is charged." required:"" placeholder:"cus_…"`
	PaymentMethod  string `help:"The customer's payment method." required:"" placeholder:"pm_…"`
	StripeAPIKey   string `help:"Stripe's secret key. Its mode becomes the account's: sk_test_… or sk_live_…." name:"stripe-api-key" required:"" env:"STRIPE_API_KEY" secret:"" placeholder:"sk_test_…"`
	payerFlags
	jsonFlags
	databaseFlags
}

// checkAccount refuses values that can't belong to an account.
func checkAccount(email, customer, method string) error {
	if address, err := mail.ParseAddress(email); err != nil || address.Address != email {
		return errors.New("--email must be a plain address such as ann@example.com")
	}
	if !isStripeID("cus_", customer) {
		return errors.New("--stripe-customer must be the id of a customer at Stripe: cus_…")
	}
	if !isStripeID("pm_", method) && !isStripeID("card_", method) {
		return errors.New("--payment-method must be the id of a payment method at Stripe: pm_…")
	}
	return nil
}

// Run makes an account and prints its secrets. It checks the values itself: kong
// calls Validate before it looks for what is missing, and would name one missing
// value after the other.
func (c *apiAccountsCreate) Run(ctx context.Context, o cli.Output) error {
	live, err := payments.LiveKey(c.StripeAPIKey)
	err = errors.Join(err, checkAccount(c.Email, c.StripeCustomer, c.PaymentMethod), c.checkStripeWith(c.StripeAPIKey))
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrUsage, err)
	}
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		if err := c.checkPayer(ctx, pool, c.StripeAPIKey, c.StripeCustomer, c.PaymentMethod); err != nil {
			return err
		}
		made, err := accounts.Store{Pool: pool}.Create(ctx, accounts.NewAccount{
			Email: c.Email, StripeCustomer: c.StripeCustomer, PaymentMethod: c.PaymentMethod, Livemode: live,
		})
		if err != nil {
			return err
		}
		shown := map[string]string{
			"account_id": made.AccountID, "api_key": made.APIKey.Reveal(), "callback_secret": made.CallbackSecret,
		}
		return o.Print(c.JSON, shown, fmt.Sprintf(
			"account_id       %s\napi_key          %s\ncallback_secret  %s\nKeep the key and the secret: they are shown only now.\n",
			made.AccountID, made.APIKey.Reveal(), made.CallbackSecret))
	})
}

type apiAccountsList struct {
	databaseFlags
	jsonFlags
}

// Run prints all accounts.
func (c *apiAccountsList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "accounts", func(pool *pgxpool.Pool) error {
		found, err := accounts.Store{Pool: pool}.List(ctx)
		if err != nil {
			return err
		}
		return o.Print(c.JSON, found, table("ACCOUNT\tEMAIL\tMODE\tCUSTOMER\tPAYMENT METHOD\tCREATED\tDISABLED", found, accountRow))
	})
}

func accountRow(a accounts.Account) string {
	disabled := "-"
	if a.DisabledAt != nil {
		disabled = timestamp(*a.DisabledAt)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s",
		a.ID, a.Email, payments.ModeName(a.Livemode), a.StripeCustomer, a.PaymentMethod, timestamp(a.CreatedAt), disabled)
}
