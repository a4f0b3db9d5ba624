package commands

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"text/tabwriter"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
)

// adminConnections are enough for a command that does one thing.
const adminConnections = 2

type jsonFlags struct {
	JSON bool `help:"Print JSON." name:"json"`
}

type accountCreateFlags struct {
	databaseFlags
	jsonFlags
	StripeAPIKey   string `help:"Its mode is the account's: sk_test_… or sk_live_…." name:"stripe-api-key" required:"" env:"STRIPE_API_KEY" placeholder:"sk_test_…"`
	Email          string `help:"Where receipts go." required:""`
	StripeCustomer string `help:"The customer at Stripe who is charged." required:"" placeholder:"cus_…"`
	PaymentMethod  string `help:"The customer's payment method." required:"" placeholder:"pm_…"`
}

// Validate refuses what can't be an account as wrong usage.
func (f *accountCreateFlags) Validate() error {
	if address, err := mail.ParseAddress(f.Email); err != nil || address.Address != f.Email {
		return errors.New("--email must be a plain address such as ann@example.com")
	}
	if !isStripeID("cus_", f.StripeCustomer) {
		return errors.New("--stripe-customer must be Stripe's id of a customer: cus_…")
	}
	if !isStripeID("pm_", f.PaymentMethod) && !isStripeID("card_", f.PaymentMethod) {
		return errors.New("--payment-method must be Stripe's id of a payment method: pm_…")
	}
	return nil
}

func isStripeID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	word := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
	}
	return ok && rest != "" && len(id) <= 255 && strings.IndexFunc(rest, func(r rune) bool { return !word(r) }) < 0
}

func (f *accountCreateFlags) run(ctx context.Context, o cli.Output) error {
	live, err := payments.LiveKey(f.StripeAPIKey)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrUsage, err)
	}
	pool, err := f.open(ctx, "accounts", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	made, err := accounts.Store{Pool: pool}.Create(ctx, accounts.NewAccount{
		Email: f.Email, StripeCustomer: f.StripeCustomer, PaymentMethod: f.PaymentMethod, Livemode: live,
	})
	if err != nil {
		return err
	}
	shown := map[string]string{
		"account_id": made.AccountID, "api_key": made.APIKey.Reveal(), "callback_secret": made.CallbackSecret,
	}
	return o.Print(f.JSON, shown, fmt.Sprintf(
		"account_id       %s\napi_key          %s\ncallback_secret  %s\nKeep the key and the secret: they are shown only now.\n",
		made.AccountID, made.APIKey.Reveal(), made.CallbackSecret))
}

type accountListFlags struct {
	databaseFlags
	jsonFlags
}

func (f *accountListFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "accounts", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	found, err := accounts.Store{Pool: pool}.List(ctx)
	if err != nil {
		return err
	}
	lines := table("ACCOUNT\tEMAIL\tMODE\tCUSTOMER\tPAYMENT METHOD\tCREATED", found, func(a accounts.Account) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", a.ID, a.Email, mode(a.Livemode), a.StripeCustomer, a.PaymentMethod,
			a.CreatedAt.UTC().Format(timeFormat))
	})
	return o.Print(f.JSON, found, lines)
}

type keyCreateFlags struct {
	databaseFlags
	jsonFlags
	Account string `help:"The account." required:"" placeholder:"acct_…"`
}

func (f *keyCreateFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	id, key, err := accounts.Store{Pool: pool}.CreateKey(ctx, f.Account)
	if err != nil {
		return err
	}
	shown := map[string]string{"key_id": id, "api_key": key.Reveal()}
	return o.Print(f.JSON, shown, fmt.Sprintf("key_id   %s\napi_key  %s\nKeep the key: it is shown only now.\n", id, key.Reveal()))
}

type keyListFlags struct {
	databaseFlags
	jsonFlags
	Account string `help:"The account." required:"" placeholder:"acct_…"`
}

func (f *keyListFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	keys, err := accounts.Store{Pool: pool}.ListKeys(ctx, f.Account)
	if err != nil {
		return err
	}
	if len(keys) == 0 { // an account is made with its first key, and a revoked one stays listed
		return accounts.ErrNoAccount
	}
	lines := table("KEY\tHINT\tCREATED\tREVOKED", keys, func(k accounts.APIKeyRecord) string {
		revoked := "-"
		if k.RevokedAt != nil {
			revoked = k.RevokedAt.UTC().Format(timeFormat)
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s", k.ID, k.Hint, k.CreatedAt.UTC().Format(timeFormat), revoked)
	})
	return o.Print(f.JSON, keys, lines)
}

type keyRevokeFlags struct {
	databaseFlags
	KeyID string `arg:"" help:"The key's id, as keys list shows it." placeholder:"key_…"`
}

func (f *keyRevokeFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := (accounts.Store{Pool: pool}).RevokeKey(ctx, f.KeyID); err != nil {
		return fmt.Errorf("%s: %w", f.KeyID, err)
	}
	fmt.Fprintf(o.Stdout, "%s is revoked, in force everywhere within 30 seconds\n", f.KeyID)
	return nil
}

// timeFormat is RFC 3339 without fractions.
const timeFormat = "2006-01-02T15:04:05Z"

func mode(live bool) string {
	if live {
		return "live"
	}
	return "test"
}

// table lays rows out under a heading.
func table[T any](heading string, rows []T, line func(T) string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, row := range rows {
		fmt.Fprintln(w, line(row))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return text.String()
}
