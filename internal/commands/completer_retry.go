package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

type completerKeysRetry struct {
	databaseFlags
	operatorFlags
	Account string `help:"The key's account, if several accounts use the same key; with --parked, only this account's keys." placeholder:"acct_…"`
	Key     string `arg:"" optional:"" help:"The Idempotency-Key."`
	Parked  bool   `help:"Retry every key that is parked for --reason, instead of one key."`
	Reason  string `help:"What the keys are parked for, as keys list shows it." placeholder:"REASON"`
}

// Validate demands one key or all keys of a reason.
func (c *completerKeysRetry) Validate() error {
	switch {
	case c.Parked != (c.Reason != ""):
		return errors.New("give both: --parked --reason REASON; `keys list --parked` shows the reasons")
	case c.Parked == (c.Key != ""):
		return errors.New("give a key, or --parked --reason REASON")
	}
	return nil
}

// Run makes keys due.
func (c *completerKeysRetry) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "keys", func(pool *pgxpool.Pool) error {
		if c.Parked {
			return c.retryParked(ctx, o, phases.Keys{Pool: pool})
		}
		record, err := keyFlags{Account: c.Account, Key: c.Key}.find(ctx, pool)
		if err != nil {
			return err
		}
		if err := (phases.Keys{Pool: pool}).Retry(ctx, record, c.operator()); err != nil {
			return notDone(record, "retried", err)
		}
		// The worker that held the lease may still be calling Stripe.
		when := cmp.Or(stillLeased(record, "at %s, when its last worker's lease ends: the completer takes it then"), "now: the completer takes it next")
		_, err = fmt.Fprintf(o.Stdout, "%s of %s is due %s\n", record.Key, record.Account, when)
		return err
	})
}

// retryParked makes all keys due that are parked for a reason now, each once: a
// completer may park them again meanwhile, and for a cause that lasts it would
// do so for ever. Keys that change meanwhile are left alone: somebody else has
// decided about them.
func (c *completerKeysRetry) retryParked(ctx context.Context, o cli.Output, keys phases.Keys) error {
	parked, err := keys.List(ctx, phases.Filter{Account: c.Account, Parked: true, Reason: c.Reason, Limit: math.MaxInt32})
	if err != nil {
		return err
	}
	retried := 0
	for _, record := range parked {
		err := keys.Retry(ctx, record, c.operator())
		if err != nil && !errors.Is(err, phases.ErrChanged) {
			return afterOthers(retried, notDone(record, "retried", err))
		}
		if err == nil {
			retried++
		}
	}
	if retried == 0 {
		_, err := fmt.Fprintf(o.Stdout, "no key is parked for %q\n", c.Reason)
		return err
	}
	_, err = fmt.Fprintln(o.Stdout, several(retried, "key is due: the completer takes it next, or when the lease of its last worker ends",
		"keys are due: the completer takes them next, or when the leases of their last workers end"))
	return err
}
