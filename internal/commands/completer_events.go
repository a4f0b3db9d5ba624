package commands

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/rides"
)

type completerEventsList struct {
	databaseFlags
	listFlags
	Waiting bool `help:"Only events that are not worked yet, those first that are due first."`
}

// Validate refuses settings that make no sense.
func (c *completerEventsList) Validate() error { return c.checkList() }

// Run prints Stripe's events.
func (c *completerEventsList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "events", func(pool *pgxpool.Pool) error {
		events, err := (&rides.EventWorker{Pool: pool}).Events(ctx, c.Waiting, c.wanted())
		if err != nil {
			return err
		}
		return printList(o, c.listFlags, "RECEIVED\tTYPE\tOBJECT\tEVENT\tDELIVERIES\tOUTCOME", events, eventRow)
	})
}

func eventRow(e rides.StoredEvent) string {
	outcome := "due " + timestamp(e.RunAfter)
	if e.Outcome != nil {
		outcome = *e.Outcome
	} else if e.LastError != nil {
		outcome += " (" + *e.LastError + ")"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", timestamp(e.ReceivedAt), e.Type, e.ObjectID, e.ID, e.Deliveries, outcome)
}

type completerEventsSweep struct {
	engineFlags
	jsonFlags
}

// Validate refuses settings that make no sense.
func (c *completerEventsSweep) Validate() error { return c.checkEngine() }

// Run compares Stripe's lists with the database, and works what differs.
func (c *completerEventsSweep) Run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	ctx, stop := cli.UntilSignaled(ctx)
	defer stop()
	parts, err := c.open(ctx, "completer-events", log, nil)
	if err != nil {
		return err
	}
	defer parts.pool.Close()
	if err := parts.pin.Check(ctx); err != nil {
		return err
	}
	// A late refund doesn't end with ctx. At a signal it is released, as events
	// are.
	defer context.AfterFunc(ctx, func() { parts.engine.Shutdown(ctx) })()
	counts, err := parts.eventWorker(log, nil).Sweep(ctx)
	if err != nil {
		return err
	}
	return o.Print(c.JSON, counts, fmt.Sprintf(
		"of 30 days: %s, %s; %d looked at, worked %d, released %d; payment intents closed %d\n",
		several(counts.Intents, "payment intent", "payment intents"), several(counts.Others, "refund or dispute", "refunds or disputes"), counts.Found, counts.Worked, counts.Released, counts.Closed))
}
