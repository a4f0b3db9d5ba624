package commands

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/cli"
)

type apiKeysCreate struct {
	databaseFlags
	jsonFlags
	Account string `help:"The account." required:"" placeholder:"acct_…"`
}

// Run makes an API key and prints it.
func (c *apiKeysCreate) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		id, key, err := accounts.Store{Pool: pool}.CreateKey(ctx, c.Account)
		if err != nil {
			return err
		}
		shown := map[string]string{"key_id": id, "api_key": key.Reveal()}
		return o.Print(c.JSON, shown, fmt.Sprintf("key_id   %s\napi_key  %s\nKeep the key: it is shown only now.\n", id, key.Reveal()))
	})
}

type apiKeysList struct {
	databaseFlags
	jsonFlags
	Account string `help:"The account." required:"" placeholder:"acct_…"`
}

// Run prints an account's API keys, without their secrets.
func (c *apiKeysList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		keys, err := accounts.Store{Pool: pool}.ListKeys(ctx, c.Account)
		if err != nil {
			return err
		}
		if len(keys) == 0 { // every account has at least one: it is made with one, and a revoked one stays listed
			return accounts.ErrNoAccount
		}
		return o.Print(c.JSON, keys, table("KEY\tHINT\tCREATED\tREVOKED", keys, apiKeyRow))
	})
}

func apiKeyRow(k accounts.APIKeyRecord) string {
	revoked := "-"
	if k.RevokedAt != nil {
		revoked = timestamp(*k.RevokedAt)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", k.ID, k.Hint, timestamp(k.CreatedAt), revoked)
}

type apiKeysRevoke struct {
	databaseFlags
	KeyID string `arg:"" help:"The key's id, as keys list shows it." placeholder:"key_…"`
}

// Run revokes an API key.
func (c *apiKeysRevoke) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		if err := (accounts.Store{Pool: pool}).RevokeKey(ctx, c.KeyID); err != nil {
			return fmt.Errorf("%s: %w", c.KeyID, err)
		}
		_, err := fmt.Fprintf(o.Stdout, "%s is revoked, in force everywhere within 30 seconds\n", c.KeyID)
		return err
	})
}
