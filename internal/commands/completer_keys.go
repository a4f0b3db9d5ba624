package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

type completerKeysList struct {
	databaseFlags
	jsonFlags
	Parked     bool          `help:"Only keys that wait for a person." xor:"state"`
	Unfinished bool          `help:"Only keys without an answer." xor:"state"`
	OlderThan  time.Duration `help:"Only keys made at least this long ago." placeholder:"DURATION"`
	Account    string        `help:"Only this account's keys." placeholder:"acct_…"`
	Limit      int           `help:"Maximum number of keys to list." default:"1000"`
}

// Run prints the keys that were asked for.
func (c *completerKeysList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		records, err := phases.Keys{Pool: pool}.List(ctx, phases.Filter{
			Account: c.Account, Parked: c.Parked, Unfinished: c.Unfinished, OlderThan: c.OlderThan, Limit: max(c.Limit, 1),
		})
		if err != nil {
			return err
		}
		if records == nil {
			records = []phases.Record{} // [] in JSON, not null
		}
		return o.Print(c.JSON, records, table("ACCOUNT\tKEY\tRECOVERY POINT\tATTEMPTS\tCREATED\tSTATE", records, keyRow))
	})
}

func keyRow(r phases.Record) string {
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", r.Account, r.Key, r.RecoveryPoint, r.Attempts, timestamp(r.CreatedAt), keyState(r))
}

// keyState describes the state of a key in a word or two.
func keyState(r phases.Record) string {
	switch {
	case r.ReapedAt != nil:
		return "reaped"
	case r.FinishedAt != nil:
		return fmt.Sprint("finished ", r.Status)
	case r.ParkedReason != "":
		return "parked " + r.ParkedReason
	case r.Leased:
		return "leased"
	default:
		return "due " + timestamp(r.RunAfter)
	}
}

// keyFlags choose one key.
type keyFlags struct {
	Account string `help:"The key's account, if several accounts use the same key." placeholder:"acct_…"`
	Key     string `arg:"" help:"The Idempotency-Key."`
}

// find returns the one key that the flags choose.
func (f keyFlags) find(ctx context.Context, pool *pgxpool.Pool) (phases.Record, error) {
	found, err := phases.Keys{Pool: pool}.Show(ctx, f.Account, f.Key)
	if err != nil {
		return phases.Record{}, err
	}
	switch len(found) {
	case 0:
		return phases.Record{}, fmt.Errorf("there is no key %q", f.Key)
	case 1:
		return found[0], nil
	}
	accounts := make([]string, len(found))
	for i, record := range found {
		accounts[i] = record.Account
	}
	return phases.Record{}, fmt.Errorf("several accounts use the key %q; choose one with --account: %s", f.Key, strings.Join(accounts, ", "))
}

type completerKeysShow struct {
	databaseFlags
	keyFlags
	jsonFlags
}

// Run prints a key: one field a line, under the names of its JSON, or as one
// line of JSON.
func (c *completerKeysShow) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		record, err := c.find(ctx, pool)
		if err != nil {
			return err
		}
		indented, err := json.MarshalIndent(record, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding key: %w", err)
		}
		return o.Print(c.JSON, record, string(indented)+"\n")
	})
}

// operatorFlags name who changes a key.
type operatorFlags struct {
	By string `help:"Who decides, for the audit record; without a name, your numeric user id." env:"USER"`
}

// operator names the operator in an audit record.
func (f operatorFlags) operator() string {
	if f.By != "" {
		return f.By
	}
	return fmt.Sprint("uid ", os.Getuid())
}

// keyChange is what retry and park have in common.
type keyChange struct {
	databaseFlags
	keyFlags
	operatorFlags
}

// change changes the key that the flags choose, and prints what outcome says of
// the key as it was before.
func (f keyChange) change(
	ctx context.Context, o cli.Output,
	change func(phases.Keys, context.Context, phases.Record, string) error, outcome func(phases.Record) string,
) error {
	return f.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		record, err := f.find(ctx, pool)
		if err != nil {
			return err
		}
		if err := change(phases.Keys{Pool: pool}, ctx, record, f.operator()); err != nil {
			return fmt.Errorf("%s: %w", record.Key, err)
		}
		_, err = fmt.Fprintf(o.Stdout, "%s of %s %s\n", record.Key, record.Account, outcome(record))
		return err
	})
}

type completerKeysRetry struct{ keyChange }

// Run makes a key due.
func (c *completerKeysRetry) Run(ctx context.Context, o cli.Output) error {
	return c.change(ctx, o, phases.Keys.Retry, func(before phases.Record) string {
		if before.Leased && before.LeasedUntil != nil {
			// The worker that held the lease may still be calling Stripe.
			return "is due at " + timestamp(*before.LeasedUntil) + ", when its last worker's lease ends: the completer takes it then"
		}
		return "is due now: the completer takes it next"
	})
}

type completerKeysPark struct{ keyChange }

// Run parks a key.
func (c *completerKeysPark) Run(ctx context.Context, o cli.Output) error {
	return c.change(ctx, o, phases.Keys.Park, func(phases.Record) string {
		return "is parked: nothing happens to it before `keys retry` or `keys resolve`"
	})
}
