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
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/process"
)

var (
	// errPortTaken is possible even for a port that was free a moment ago.
	errPortTaken = errors.New("the port is taken")

	// errOrphans means that children of a killed postmaster still run.
	errOrphans = errors.New("processes of the last server still run")
)

// initialize makes the database if there is none, and reads its password.
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

// initdb makes the database in data.new and renames that to data when it is
// complete. A start that is killed before that leaves no incomplete database.
func (s *Server) initdb(ctx context.Context) error {
	s.config.Logger.InfoContext(ctx, "making a database (first start only)", slog.String("dir", s.home.dir), slog.String("with", s.config.Binaries))
	password := s.home.path("password")
	if err := s.writePassword(password); err != nil {
		return err
	}
	fresh := s.home.path("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	cmd := s.home.command(ctx, filepath.Join(s.config.Binaries, "initdb"),
		"--pgdata="+fresh, "--username="+superuser, "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := process.Run(cmd, orphanSignal); err != nil {
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

// launch starts the server. It tries again, until ctx ends, if orphans of the
// last server still run or the port that it picked is taken.
func (s *Server) launch(ctx context.Context) error {
	// Keep the last log: it often says why the server has to start again.
	if err := os.Rename(s.Log(), s.Log()+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keeping the log of the last start: %w", err)
	}
	wanted := s.config.Port
	for {
		err := s.try(ctx, wanted)
		again := errors.Is(err, errOrphans) || wanted == 0 && errors.Is(err, errPortTaken)
		if !again {
			return err
		}
		s.config.Logger.DebugContext(ctx, "Postgres can't start yet; trying again", slog.Any("error", err))
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

	// The server goes on when the context that bounds its start ends.
	cmd := s.home.command(context.WithoutCancel(ctx), filepath.Join(s.config.Binaries, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	if s.Child, err = process.Start(cmd, orphanSignal); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	return s.awaitReady(ctx)
}

// freePort returns port, or a port that is free at the moment if port is 0.
func freePort(ctx context.Context, port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	address, err := netip.ParseAddrPort(listener.Addr().String())
	return int(address.Port()), err
}

func (s *Server) arguments() []string {
	settings := map[string]string{
		"listen_addresses": host,
		"port":             strconv.Itoa(s.config.Port),
		// Debian's default is a folder that only its own account may write to,
		// and the path of our own folder may be too long for a socket.
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

// awaitReady reads the pid file, as pg_ctl does: that needs no connection, and
// can't mistake another server on the same port for this one.
func (s *Server) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !s.home.ready(s.PID()) {
		select {
		case <-ticker.C:
		case <-s.Child.Done():
			return s.whyEnded()
		case <-ctx.Done():
			_ = s.Signal(syscall.SIGQUIT)
			<-s.Child.Done()
			return fmt.Errorf("waiting for Postgres to start: %w", context.Cause(ctx))
		}
	}
	return nil
}

// whyEnded returns the reason that the server's log gives for its end.
func (s *Server) whyEnded() error {
	log, err := os.ReadFile(s.Log())
	if err != nil {
		return fmt.Errorf("starting Postgres: it ended (%w); reading its log: %w", s.Err(), err)
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
