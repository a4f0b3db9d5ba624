// Package pgserver runs a Postgres server as a child of this process, for the
// sandbox and the tests, from this machine's programs or from downloaded ones.
package pgserver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// startTimeout bounds a start; replaying the log after a crash takes
	// longest.
	startTimeout = 60 * time.Second

	// immediateTimeout bounds an immediate shutdown, in which Postgres kills
	// its own children after 5 s.
	immediateTimeout = 10 * time.Second

	host = "127.0.0.1"
)

// ServerConfig says where a server of our own lives and how it runs.
type ServerConfig struct {
	// Dir holds everything: data, password, log. It is made where it doesn't
	// exist. As root, it may become a link to a folder in /var/tmp: see
	// StartServer.
	Dir string

	// Port is on the loopback address. 0 picks a free one.
	Port int

	// Superuser is the role that owns the server, "postgres" when empty. Only
	// the first start heeds it.
	Superuser string

	// Settings are those of postgresql.conf, by name. They win over everything
	// else, ALTER SYSTEM included. Without any the server is durable.
	Settings map[string]string

	// Binaries is the folder of initdb and postgres. When empty, FindBinaries
	// is asked, and where it finds none they are downloaded into Dir.
	Binaries string

	// Repository is the Maven repository to download from, Maven Central when
	// empty.
	Repository string

	// Logger hears of what takes long. Nil means nobody does.
	Logger *slog.Logger
}

// A Server is a Postgres that this process runs as its child. On Linux it ends
// with this process, whichever way that ends; elsewhere the next StartServer
// stops what is left. Its methods are safe for concurrent use.
type Server struct {
	config   ServerConfig
	home     home
	password string
	process  *process
	done     chan struct{}
}

// StartServer starts the server of config.Dir and returns when it takes
// connections; the first time it makes the database, which takes some seconds.
// It listens on loopback TCP only, and has a random password that is kept in
// Dir. A server that a killed process left running in Dir is stopped first; one
// whose owner lives is an error.
//
// As root the server runs under another account: the owner of Dir, postgres or
// nobody. Where that account can't reach Dir, Dir becomes a link to a folder in
// /var/tmp that is named for it. ctx bounds the start, not the server's life.
func StartServer(ctx context.Context, config ServerConfig) (*Server, error) {
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	if config.Superuser == "" {
		config.Superuser = "postgres"
	}
	home, err := openHome(ctx, config.Dir, config.Logger)
	if err != nil {
		return nil, err
	}
	unlock, err := home.lock()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, home: home, done: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		unlock()
		return nil, err
	}
	go func() {
		<-s.process.done
		unlock()
		close(s.done)
	}()
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := s.findBinaries(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.home.stopLeftover(ctx, s.config.Logger); err != nil {
		return err
	}
	if err := s.initialize(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// URL is that of the database "postgres", as the superuser.
func (s *Server) URL() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(s.config.Superuser, s.password),
		Host:     net.JoinHostPort(host, strconv.Itoa(s.config.Port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// PID is the process id of the postmaster.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Port is the one that the server listens on.
func (s *Server) Port() int { return s.config.Port }

// Config starts the same server again, on the same port, once this one ended.
func (s *Server) Config() ServerConfig { return s.config }

// Log is the file that the server writes its log to. That of the start before
// is beside it, with ".old" at the end of its name.
func (s *Server) Log() string { return s.home.path("log") }

// Done is closed when the server has ended, for whatever reason. Then the same
// Dir can be started again.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server and returns when it has ended: first by a fast shutdown,
// which rolls back what is open, and when ctx ends by an immediate one, which
// leaves the log to be replayed at the next start. Stopping a server that has
// ended does nothing.
func (s *Server) Stop(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	default:
		s.signal(syscall.SIGINT)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.signal(syscall.SIGQUIT)
	}
	select {
	case <-s.done:
	case <-time.After(immediateTimeout):
		s.Kill()
	}
	return fmt.Errorf("stopping Postgres: it was ended without a checkpoint: %w", context.Cause(ctx))
}

// Kill is kill -9 of the postmaster; it returns when that has ended. Its
// children end by themselves, a moment later.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

// signal fails only when there is nobody left to be told.
func (s *Server) signal(signal os.Signal) { _ = s.process.cmd.Process.Signal(signal) }
