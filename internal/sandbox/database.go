package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// stopTimeout bounds a clean end of Postgres, with the checkpoint that it
// writes.
const stopTimeout = 10 * time.Second

// openDatabase returns the URL of the database and what ends it: the one that
// DATABASE_URL names, or one of our own.
func (s *sandbox) openDatabase(ctx, force context.Context) (url string, stop func(), err error) {
	if s.flags.DatabaseURL != "" {
		s.said.sayf("using the Postgres of DATABASE_URL")
		return s.flags.DatabaseURL, func() {}, nil
	}
	if err := forgetPostgres(); err != nil {
		return "", nil, fmt.Errorf("leaving out Postgres's variables: %w", err)
	}
	s.said.sayf("starting Postgres in %s", filepath.Join(s.flags.Data, "postgres"))
	log := s.said.logger("postgres")
	server, err := pgserver.StartServer(ctx, pgserver.ServerConfig{Dir: filepath.Join(s.flags.Data, "postgres"), Logger: log})
	if err != nil {
		return "", nil, err
	}
	d := watchDatabase(context.WithoutCancel(ctx), server, log, func(pid int) { s.started("postgres", pid) })
	return server.URL(), func() {
		s.said.sayf("stopping Postgres")
		if err := d.stop(force); err != nil {
			s.said.sayf("%v", err)
		}
	}, nil
}

// database is a Postgres of our own, which is started again whenever it ends,
// until stop.
type database struct {
	// server is watch's until done.
	server  *pgserver.Server
	log     *slog.Logger
	started func(pid int)
	end     context.CancelFunc
	done    chan struct{}
}

// watchDatabase keeps a server running until stop. started hears of every
// postmaster.
func watchDatabase(ctx context.Context, server *pgserver.Server, log *slog.Logger, started func(pid int)) *database {
	d := &database{server: server, log: log, started: started, done: make(chan struct{})}
	ctx, d.end = context.WithCancel(ctx)
	started(server.PID())
	go d.watch(ctx)
	return d
}

// stop ends the server: in good order, or at once when force ends.
func (d *database) stop(force context.Context) error {
	d.end()
	<-d.done
	ctx, cancel := context.WithTimeout(force, stopTimeout)
	defer cancel()
	return d.server.Stop(ctx)
}

func (d *database) watch(ctx context.Context) {
	defer close(d.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.server.Done():
		}
		d.log.WarnContext(ctx, "Postgres ended; it is started again", slog.Int("pid", d.server.PID()), slog.Int("port", d.server.Port()))
		if d.restart(ctx) != nil {
			return
		}
		d.started(d.server.PID())
	}
}

// restart tries until it succeeds or ctx ends.
func (d *database) restart(ctx context.Context) error {
	for failures := 0; ; failures++ {
		server, err := pgserver.StartServer(ctx, d.server.Config())
		if err == nil {
			d.server = server
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		delay := backoff(failures)
		d.log.ErrorContext(ctx, "Postgres doesn't start", slog.Any("error", err), slog.Duration("again_in", delay))
		if err := pause.For(ctx, delay); err != nil {
			return err
		}
	}
}
