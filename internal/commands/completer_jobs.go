package commands

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/jobs"
)

type completerJobsList struct {
	databaseFlags
	listFlags
	Dead bool `help:"Only jobs that were given up."`
}

// Validate refuses settings that make no sense.
func (c *completerJobsList) Validate() error { return c.checkList() }

// Run prints the jobs that are not delivered.
func (c *completerJobsList) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "jobs", func(pool *pgxpool.Pool) error {
		records, err := jobs.Jobs{Pool: pool}.List(ctx, c.Dead, c.wanted())
		if err != nil {
			return err
		}
		return printList(o, c.listFlags, "ID\tKIND\tACCOUNT\tKEY\tATTEMPTS\tSTAGED\tSTATE\tLAST ERROR", records, jobRow)
	})
}

func jobRow(r jobs.Record) string {
	id, state := "-", r.State
	if r.ID != 0 {
		id = strconv.FormatInt(r.ID, 10)
	}
	if r.State == "waiting" && r.DueAt != nil {
		state += " until " + timestamp(*r.DueAt)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s", id, r.Kind, r.Account, r.Key, r.Attempts, timestamp(r.StagedAt), state,
		strings.ReplaceAll(r.LastError, "\n", " "))
}

type completerJobsRetry struct {
	databaseFlags
	operatorFlags
	IDs  []int64 `arg:"" optional:"" name:"id" help:"The jobs' numbers, as jobs list shows them."`
	Dead bool    `help:"Retry every job that was given up."`
}

// Validate demands jobs.
func (c *completerJobsRetry) Validate() error {
	if c.Dead == (len(c.IDs) > 0) {
		return errors.New("give the numbers of jobs, or --dead")
	}
	return nil
}

// Run makes jobs due.
func (c *completerJobsRetry) Run(ctx context.Context, o cli.Output) error {
	return c.withPool(ctx, "jobs", func(pool *pgxpool.Pool) error {
		all := jobs.Jobs{Pool: pool}
		ids := c.IDs
		if c.Dead {
			var err error
			if ids, err = all.Dead(ctx); err != nil {
				return err
			}
		}
		retried := 0
		for _, id := range ids {
			err := all.Retry(ctx, id, c.operator())
			switch {
			case err == nil:
				retried++
			case c.Dead && errors.Is(err, jobs.ErrNotRetried):
				// It has changed since it was listed.
			default:
				return afterOthers(retried, err)
			}
		}
		if retried == 0 {
			_, err := fmt.Fprintln(o.Stdout, "no job is dead")
			return err
		}
		_, err := fmt.Fprintln(o.Stdout, several(retried, "job is due now: the completer takes it next", "jobs are due now: the completer takes them next"))
		return err
	})
}
