package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

type completerKeysList struct {
	databaseFlags
	listFlags
	Parked     bool          `help:"Only keys that wait for a person." xor:"state"`
	Unfinished bool          `help:"Only keys without an answer." xor:"state"`
	Reason     string        `help:"Only keys that are parked for this reason." placeholder:"REASON"`
	OlderThan  time.Duration `help:"Only keys made at least this long ago." placeholder:"DURATION"`
	Account    string        `help:"Only this account's keys." placeholder:"acct_…"`
}

// Validate refuses settings that make no sense.
func (c *completerKeysList) Validate() error {
	if c.OlderThan < 0 {
		return errors.New("--older-than must not be negative")
	}
	return c.checkList()
}

// Run prints the keys that were asked for.
func (c *completerKeysList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		records, err := phases.Keys{Pool: pool}.List(ctx, phases.Filter{
			Account: c.Account, Parked: c.Parked, Unfinished: c.Unfinished, Reason: c.Reason, OlderThan: c.OlderThan, Limit: c.wanted(),
		})
		if err != nil {
			return err
		}
		return printList(o, c.listFlags, "ACCOUNT\tKEY\tRECOVERY POINT\tATTEMPTS\tCREATED\tSTATE", records, keyRow)
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
	accounts := make([]string, len(found))
	for i, record := range found {
		accounts[i] = record.Account
	}
	if err := f.checkOne(accounts); err != nil {
		return phases.Record{}, err
	}
	return found[0], nil
}

// checkOne returns an error unless one account has the key.
func (f keyFlags) checkOne(accounts []string) error {
	switch len(accounts) {
	case 0:
		return fmt.Errorf("there is no key %q", f.Key)
	case 1:
		return nil
	default:
		return fmt.Errorf("several accounts use the key %q; choose one with --account: %s", f.Key, strings.Join(accounts, ", "))
	}
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
		indented, err := cli.EncodeJSON(record, jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		return o.Print(c.JSON, record, string(indented)+"\n")
	})
}

// operatorFlags name who decides something, such as what becomes of a key.
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

type completerKeysPark struct {
	databaseFlags
	keyFlags
	operatorFlags
}

// Run parks a key.
func (c *completerKeysPark) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		record, err := c.find(ctx, pool)
		if err != nil {
			return err
		}
		if err := (phases.Keys{Pool: pool}).Park(ctx, record, c.operator()); err != nil {
			return notDone(record, "parked", err)
		}
		_, err = fmt.Fprintf(o.Stdout, "%s of %s is parked: nothing happens to it before `keys retry` or `keys resolve`%s\n",
			record.Key, record.Account, stillCalling(record, "; its last worker may be calling Stripe until %s, and resolving works after that"))
		return err
	})
}

// stillLeased returns text, with the end of the lease, if a worker holds the
// key, or held it until a person took it away, and "" otherwise.
func stillLeased(r phases.Record, text string) string {
	if !r.Leased || r.LeasedUntil == nil {
		return ""
	}
	return fmt.Sprintf(text, timestamp(*r.LeasedUntil))
}

// stillCalling returns text, with the end of the call, if a worker may still be
// calling, and "" otherwise.
func stillCalling(r phases.Record, text string) string {
	if !r.Calling {
		return ""
	}
	var end time.Time
	for _, until := range []*time.Time{r.LeasedUntil, r.CallingUntil} {
		if until != nil && until.After(end) {
			end = *until
		}
	}
	return fmt.Sprintf(text, timestamp(end))
}
