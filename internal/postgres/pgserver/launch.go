package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

var (
	// errPortTaken can happen with a port that was free a moment ago.
	errPortTaken = errors.New("the port is taken")

	// errOrphans says that children of a killed postmaster still run.
	errOrphans = errors.New("processes of the last server still run")
)

// initialize makes the database unless there is one, and reads or makes its
// password.
func (s *Server) initialize(ctx context.Context) error {
	_, err := os.Stat(s.home.path("data/PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.initdb(ctx); err != nil {
			return fmt.Errorf("making a database in %s: %w", s.home.dir, err)
		}
	} else if err != nil {
		return fmt.Errorf("looking for a database in %s: %w", s.home.dir, err)
	}
	password, err := os.ReadFile(s.home.path("password"))
	if err != nil {
		return fmt.Errorf("reading the database's password: %w", err)
	}
	s.password = strings.TrimSpace(string(password))
	return nil
}

// initdb makes the database beside its place and moves it there when it is
// whole, so that a start that is killed half-way leaves no half of a database.
func (s *Server) initdb(ctx context.Context) error {
	s.config.Logger.InfoContext(ctx, "making a database, once", slog.String("dir", s.home.dir), slog.String("with", s.config.Binaries))
	password := s.home.path("password")
	if err := s.writePassword(password); err != nil {
		return err
	}
	fresh := s.home.path("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	cmd := s.home.command(ctx, filepath.Join(s.config.Binaries, "initdb"),
		"--pgdata="+fresh, "--username="+s.config.Superuser, "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := run(cmd); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return os.Rename(fresh, s.home.path("data"))
}

func (s *Server) writePassword(path string) error {
	file, err := s.home.create("password")
	if err != nil {
		return err
	}
	_, err = file.WriteString(rand.Text() + "\n")
	return errors.Join(err, file.Close(), s.home.own(path))
}

// launch starts the server, again where waiting or another port may help.
func (s *Server) launch(ctx context.Context) error {
	// What the last server said is often why there is a new start.
	if err := os.Rename(s.Log(), s.Log()+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("putting the server's log aside: %w", err)
	}
	wanted := s.config.Port
	for {
		err := s.try(ctx, wanted)
		again := errors.Is(err, errOrphans) || wanted == 0 && errors.Is(err, errPortTaken)
		if !again {
			return err
		}
		s.config.Logger.DebugContext(ctx, "Postgres can't start yet", slog.Any("error", err))
		if pause.For(ctx, 10*pollInterval) != nil {
			return err
		}
	}
}

// try starts the server once.
func (s *Server) try(ctx context.Context, port int) (err error) {
	if s.config.Port, err = freePort(ctx, port); err != nil {
		return err
	}
	log, err := s.home.create("log")
	if err != nil {
		return fmt.Errorf("opening the server's log: %w", err)
	}
	// The server has its own copy.
	defer func() { _ = log.Close() }()

	// The server outlives the context that bounds its start.
	cmd := s.home.command(context.WithoutCancel(ctx), filepath.Join(s.config.Binaries, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.process, err = start(cmd); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	return s.awaitReady(ctx)
}

// freePort returns port, or one that is free at the moment where port is 0.
func freePort(ctx context.Context, port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	_, free, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	return strconv.Atoi(free)
}

func (s *Server) arguments() []string {
	settings := map[string]string{
		"listen_addresses": host,
		"port":             strconv.Itoa(s.config.Port),
		// Debian's default is a folder that only its own account may write to,
		// and a path of ours may be too long for a socket.
		"unix_socket_directories": "",
		"logging_collector":       "off",
		"log_destination":         "stderr",
	}
	maps.Copy(settings, s.config.Settings)
	args := []string{"-D", s.home.path("data")}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// awaitReady asks the pid file, as pg_ctl does: it needs no connection, and it
// can't take another server on the same port for this one.
func (s *Server) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !s.home.ready(s.PID()) {
		select {
		case <-ticker.C:
		case <-s.process.done:
			return s.whyEnded()
		case <-ctx.Done():
			s.signal(syscall.SIGQUIT)
			<-s.process.done
			return fmt.Errorf("waiting for Postgres to start: %w", context.Cause(ctx))
		}
	}
	return nil
}

// whyEnded reads the reason from the log.
func (s *Server) whyEnded() error {
	log, err := os.ReadFile(s.Log())
	if err != nil {
		return fmt.Errorf("starting Postgres: it ended (%w); reading its log: %w", s.process.err, err)
	}
	text := strings.TrimSpace(string(log))
	reason := text[strings.LastIndex(text, "\n")+1:]
	if i := strings.LastIndex(text, "FATAL:"); i >= 0 {
		reason, _, _ = strings.Cut(text[i:], "\n")
	}
	switch {
	case strings.Contains(text, "pre-existing shared memory block"):
		return fmt.Errorf("starting Postgres: %w", errOrphans)
	case strings.Contains(text, "Address already in use"):
		return fmt.Errorf("starting Postgres on %s:%d: %w", host, s.config.Port, errPortTaken)
	}
	return fmt.Errorf("starting Postgres: %s (its log is %s)", reason, s.Log())
}
