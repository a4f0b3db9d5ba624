package commands

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/audit"
	"github.com/rocketrides/rocketrides/internal/cli"
)

type completerHistory struct {
	databaseFlags
	keyFlags
	jsonFlags
}

// Run prints everything that is recorded of a key, one line each.
func (c *completerHistory) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "history", func(pool *pgxpool.Pool) error {
		account := c.Account
		if account == "" {
			found, err := audit.HistoryAccounts(ctx, pool, c.Key)
			if err == nil {
				err = c.checkOne(found)
			}
			if err != nil {
				return err
			}
			account = found[0]
		}
		entries, err := audit.History(ctx, pool, account, c.Key)
		if err != nil {
			return fmt.Errorf("%q of %s: %w", c.Key, account, err)
		}
		return o.Print(c.JSON, entries, table("TIME\tABOUT\tWHAT", entries, c.row))
	})
}

// row shows an entry. It names the entry's key if that is another one.
func (c *completerHistory) row(e audit.Entry) string {
	what := e.What
	if e.Key != "" && e.Key != c.Key {
		what += " (key " + e.Key + ")"
	}
	return fmt.Sprintf("%s\t%s\t%s", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), e.Kind, what)
}
