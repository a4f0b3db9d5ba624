package commands

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/jobs"
)

type completerCallbacksList struct {
	databaseFlags
	listFlags
	Failed bool `help:"Only callbacks that were not delivered, or whose last attempt failed."`
}

// Validate refuses settings that make no sense.
func (c *completerCallbacksList) Validate() error { return c.checkList() }

// Run prints callbacks.
func (c *completerCallbacksList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "callbacks", func(pool *pgxpool.Pool) error {
		records, err := jobs.Callbacks{Pool: pool}.List(ctx, c.Failed, c.wanted())
		if err != nil {
			return err
		}
		return printList(o, c.listFlags, "ID\tACCOUNT\tRIDE\tTYPE\tHOST\tSTATUS\tATTEMPTS\tLAST\tCREATED", records, callbackRow)
	})
}

// callbackRow shows the host only: a path or a query may hold a secret.
func callbackRow(r jobs.CallbackRecord) string {
	host, last := "-", "-"
	if target, err := url.Parse(r.URL); err == nil {
		host = target.Host
	}
	switch {
	case r.LastStatus != nil:
		last = fmt.Sprint("answered ", *r.LastStatus)
	case r.LastError != nil:
		last = *r.LastError
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s", r.ID, r.Account, r.RideID, r.Type, host, r.Status, r.Attempts, last, timestamp(r.CreatedAt))
}

type completerCallbacksEndpoints struct {
	databaseFlags
	listFlags
}

// Validate refuses settings that make no sense.
func (c *completerCallbacksEndpoints) Validate() error { return c.checkList() }

// Run prints the endpoints that have failed.
func (c *completerCallbacksEndpoints) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "callbacks", func(pool *pgxpool.Pool) error {
		endpoints, err := jobs.Callbacks{Pool: pool}.Endpoints(ctx, c.wanted())
		if err != nil {
			return err
		}
		return printList(o, c.listFlags, "ACCOUNT\tHOST\tFAILURES\tFAILING SINCE\tSTATE", endpoints, endpointRow)
	})
}

func endpointRow(e jobs.Endpoint) string {
	since, state := "-", "on"
	if e.FailingSince != nil {
		since = timestamp(*e.FailingSince)
	}
	switch {
	case e.SwitchedOffAt != nil:
		state = "switched off " + timestamp(*e.SwitchedOffAt)
	case e.PausedUntil != nil:
		state = "paused until " + timestamp(*e.PausedUntil)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%s", e.Account, e.Host, e.Failures, since, state)
}

type completerCallbacksResend struct {
	databaseFlags
	operatorFlags
	IDs []string `arg:"" name:"id" help:"The callbacks: msg_…, as callbacks list shows them."`
}

// Run has callbacks sent once more.
func (c *completerCallbacksResend) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "callbacks", func(pool *pgxpool.Pool) error {
		for _, id := range c.IDs {
			if err := (jobs.Callbacks{Pool: pool}).Resend(ctx, id, c.operator()); err != nil {
				return err
			}
			fmt.Fprintf(o.Stdout, "%s is sent again: the completer takes it next\n", id)
		}
		return nil
	})
}

type completerCallbacksEnable struct {
	databaseFlags
	operatorFlags
	Account string `help:"Only of this account." placeholder:"acct_…"`
	Host    string `arg:"" help:"The host, as callbacks endpoints shows it."`
}

// Run switches an endpoint on.
func (c *completerCallbacksEnable) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "callbacks", func(pool *pgxpool.Pool) error {
		if err := (jobs.Callbacks{Pool: pool}).Enable(ctx, c.Account, c.Host, c.operator()); err != nil {
			return err
		}
		_, err := fmt.Fprintf(o.Stdout, "%s gets callbacks again; for those that it missed, see callbacks list --failed and callbacks resend\n", c.Host)
		return err
	})
}
