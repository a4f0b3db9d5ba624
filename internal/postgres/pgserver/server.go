// Package pgserver runs a Postgres server as a child of this process, for the
// sandbox and the tests. It uses this machine's programs, or downloads them.
package pgserver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/process"
)

const (
	// startTimeout bounds a start. Replaying the log after a crash takes
	// longest.
	startTimeout = 60 * time.Second

	// immediateTimeout bounds an immediate shutdown, in which Postgres kills
	// its own children after 5 s.
	immediateTimeout = 10 * time.Second

	host      = "127.0.0.1"
	superuser = "postgres"
)

// Config says where a server lives and how it runs.
type Config struct {
	// Dir holds everything: data, password, log. Start makes it if it does not
	// exist. As root, it may become a link to a folder in /var/tmp: see Start.
	Dir string

	// Port is on the loopback address. 0 picks a free one.
	Port int

	// Settings are those of postgresql.conf, by name. They win over everything
	// else, ALTER SYSTEM included. Without any, the server is durable.
	Settings map[string]string

	// Binaries is the folder of initdb and postgres. If it is empty, Start asks
	// FindBinaries, and downloads them into Dir if there are none.
	Binaries string

	// Logger logs what takes long. Nil means no log.
	Logger *slog.Logger

	// repository is the Maven repository to download from; Maven Central if it
	// is empty. downloadTimeout bounds that; 0 means 10 minutes.
	repository      string
	downloadTimeout time.Duration
}

// A Server is a Postgres that this process runs as its child. On Linux it ends
// when this process ends, even by kill -9; on other systems the next Start
// stops what is left. Its methods are safe for concurrent use.
type Server struct {
	*process.Child // the postmaster

	config   Config
	home     home
	password string
	done     chan struct{}
}

// Start starts the server of config.Dir and returns when it accepts
// connections. The first start makes the database, which takes some seconds.
// The server listens on loopback TCP only; its random password is kept in Dir.
// If an earlier process was killed and its server still runs in Dir, Start
// stops that first; if the earlier process still runs, Start returns an error.
//
// As root, the server runs under another account: the owner of Dir, postgres or
// nobody. If that account can't reach Dir, Dir becomes a link to a folder in
// /var/tmp that is named for it. ctx bounds the start, not the server's life.
func Start(ctx context.Context, config Config) (*Server, error) {
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
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
		<-s.Child.Done()
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
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort(host, strconv.Itoa(s.config.Port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Config starts the same server again, on the same port, after this one has
// ended.
func (s *Server) Config() Config { return s.config }

// Log is the path of the server's log. The log of the start before has the same
// path with ".old" at its end.
func (s *Server) Log() string { return s.home.path("log") }

// Done is closed when the server has ended, for whatever reason. Then Dir can
// be started again.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server by a fast shutdown, which rolls back open transactions,
// and returns when it has ended. When ctx ends first, Stop makes it an
// immediate shutdown, after which the next start replays the log, and returns
// an error. If the server has ended already, Stop does nothing.
func (s *Server) Stop(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	default:
		_ = s.Signal(syscall.SIGINT) // this fails if it has just ended
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		_ = s.Signal(syscall.SIGQUIT)
	}
	select {
	case <-s.done:
	case <-time.After(immediateTimeout):
		s.Kill()
	}
	return fmt.Errorf("stopping Postgres: it ended without a checkpoint: %w", context.Cause(ctx))
}

// Kill is kill -9 of the postmaster. It returns when the postmaster has ended;
// its children end a moment later.
func (s *Server) Kill() {
	_ = s.Signal(syscall.SIGKILL) // this fails if it has ended already
	<-s.done
}
