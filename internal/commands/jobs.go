package commands

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/postgres"
)

// jobConnections bound what deferred work does to the database: jobs have a
// pool of their own, so that a rush of them takes none of the connections with
// which rides are finished.
const jobConnections = 4

// jobFlags are the flags of every command that does deferred work.
type jobFlags struct {
	callbackFlags
	JobTimeout     time.Duration `help:"How long one attempt to deliver a receipt or a callback may take; a receiver of callbacks has 15s of it. The job of a completer that died is taken over after three times as long." default:"20s" env:"JOB_TIMEOUT"`
	SMTPURL        string        `help:"Where e-mails are handed in: smtp:// with STARTTLS, or smtps://, as smtp://USER:PASSWORD@HOST:PORT. Without it receipts are logged and not sent." name:"smtp-url" env:"SMTP_URL" secret:"" placeholder:"URL"`
	MailFrom       string        `help:"Sender of e-mails, such as Rocket Rides <receipts@example.com>." env:"MAIL_FROM" placeholder:"ADDRESS"`
	JobConcurrency int           `help:"How many receipts are delivered at once." default:"16" env:"JOB_CONCURRENCY"`

	CallbackConcurrency int `help:"How many callbacks are delivered at once. An account gets at most an eighth of it, and a host a quarter." default:"128" env:"CALLBACK_CONCURRENCY"`
}

// checkJobs refuses settings that make no sense.
func (f jobFlags) checkJobs() error {
	if f.JobTimeout < time.Second || f.JobConcurrency < 1 || f.CallbackConcurrency < 1 {
		return errors.New("--job-timeout must be at least 1s, and --job-concurrency and --callback-concurrency must be positive")
	}
	_, err := f.mail()
	return err
}

// mail returns where e-mails go, or nil.
func (f jobFlags) mail() (*jobs.Mail, error) {
	if f.SMTPURL == "" {
		return nil, nil //nolint:nilnil // no mail server is a choice, not a failure
	}
	if f.MailFrom == "" {
		return nil, errors.New("--smtp-url needs --mail-from: e-mails have a sender")
	}
	return jobs.NewMail(f.SMTPURL, f.MailFrom)
}

// openJobs opens a pool for deferred work, and a client on it. The caller
// closes the pool.
func (f jobFlags) openJobs(ctx context.Context, database databaseFlags, config jobs.Config) (*jobs.Client, *pgxpool.Pool, error) {
	pool, err := database.openPool(ctx, postgres.Options{ApplicationName: "jobs", MaxConns: jobConnections, Logger: config.Logger})
	if err != nil {
		return nil, nil, err
	}
	config.Pool, config.Timeout, config.Concurrency = pool, f.JobTimeout, f.JobConcurrency
	config.Callbacks, config.CallbackConcurrency = f.guard(), f.CallbackConcurrency
	config.Mail, err = f.mail()
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	client, err := jobs.NewClient(config)
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return client, pool, nil
}
