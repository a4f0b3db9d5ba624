package jobs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A SwitchedOff tells the account by e-mail that a host gets no callbacks any
// more. It isn't staged by a phase: it goes into River's table in the
// transaction that switches the endpoint off.
type SwitchedOff struct {
	Host   string    `json:"host"`
	Since  time.Time `json:"since"`  // the first failure
	Answer string    `json:"answer"` // what the last attempt came to
}

func (SwitchedOff) kind() string { return "switched_off" }
func (SwitchedOff) version() int { return 1 }

// switchedOffNotice returns the job that tells the account of an endpoint that
// it is switched off.
func switchedOffNotice(account, host string, since, at time.Time, r result) delivery[SwitchedOff] {
	id := phases.DerivedID("job_", "switched_off", account, host, since.UTC().Format(time.RFC3339Nano))
	return delivery[SwitchedOff]{
		envelope: envelope{Account: account, ID: id, StagedAt: at.UTC()},
		Job:      SwitchedOff{Host: host, Since: since.UTC(), Answer: r.text()},
	}
}

// sendSwitchedOff sends the e-mail.
func (c *Client) sendSwitchedOff(ctx context.Context, job delivery[SwitchedOff]) error {
	var to string
	reading, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if err := c.config.Pool.QueryRow(reading, `SELECT email FROM accounts WHERE id = $1`, job.Account).Scan(&to); err != nil {
		return fmt.Errorf("reading the account of a notice: %w", err)
	}
	notice, err := writeSwitchedOff(to, job)
	if err != nil {
		return err
	}
	return c.sendMail(ctx, notice)
}

func writeSwitchedOff(to string, job delivery[SwitchedOff]) (message, error) {
	l := letter{
		Subject: "Callbacks to " + job.Job.Host + " are switched off",
		Title:   "Callbacks are switched off",
		Says: "Your server has accepted no callback for days, so we have stopped sending them. " +
			"Rides are not affected. When your server works again, answer this e-mail, or ask whoever runs this service for you, " +
			"to have callbacks switched on and those that you missed sent again.",
		Lines: []line{
			{"Server", job.Job.Host},
			{"Since", date(job.Job.Since)},
			{"Reason", job.Job.Answer},
		},
		Footer: "Rocket Rides sent this notice because rides of your account have a callback_url at this server.",
	}
	return l.message(to, "switched_off."+strings.TrimPrefix(job.ID, "job_"), job.StagedAt)
}
