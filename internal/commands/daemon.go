package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// shutdownFlags are the flags of every command that a signal ends in order.
type shutdownFlags struct {
	ShutdownTimeout time.Duration `help:"How long the end after a SIGTERM may take. Work that runs has all of it but 6s, or half of it if that is more; what is left then is released to other processes." default:"25s" env:"SHUTDOWN_TIMEOUT"`
}

// checkShutdown refuses settings that make no sense.
func (f shutdownFlags) checkShutdown() error {
	if f.ShutdownTimeout <= 0 {
		return errors.New("--shutdown-timeout must be positive")
	}
	return nil
}

// daemonFlags are the flags of every command that runs until a signal.
type daemonFlags struct {
	adminFlags
	shutdownFlags
}

// checkDaemon refuses settings that make no sense.
func (f daemonFlags) checkDaemon() error { return errors.Join(f.checkAdmin(), f.checkShutdown()) }

// A daemon serves HTTP until its context ends or a listener fails, and then shuts
// down in order.
type daemon struct {
	engine *phases.Engine
	log    *slog.Logger

	// shutdownTimeout bounds the shutdown.
	shutdownTimeout time.Duration

	// drain begins the shutdown: it makes /readyz fail and new work be refused.
	drain func()

	listeners []net.Listener
	servers   []*http.Server
}

// listen adds an address to serve, and returns it with the port that was
// chosen when it asks for port 0. flag is the name of the flag that gave it.
// The address is taken at once, and served by serve.
func (d *daemon) listen(ctx context.Context, flag, address string, handler http.Handler) (string, error) {
	listener, err := cli.Listen(ctx, flag, address)
	if err != nil {
		return "", err
	}
	d.listeners = append(d.listeners, listener)
	d.servers = append(d.servers, cli.NewServer(handler, d.log))
	return listener.Addr().String(), nil
}

// close gives up every address. After a shutdown it does nothing.
func (d *daemon) close() {
	for _, listener := range d.listeners {
		_ = listener.Close()
	}
}

// serve serves every address, and does the work, until ctx ends or a listener
// fails. Either way it then shuts down, and returns when the work has ended too.
// That a listener fails is an error.
func (d *daemon) serve(ctx context.Context, work ...func(context.Context)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(d.servers))
	for i, server := range d.servers {
		go func() { failed <- server.Serve(d.listeners[i]) }()
	}
	var working sync.WaitGroup
	for _, do := range work {
		working.Go(func() { do(ctx) })
	}
	var err error
	select {
	case failure := <-failed:
		err = fmt.Errorf("serving: %w", failure)
	case <-ctx.Done():
	}
	stop() // the work ends beside the shutdown
	err = errors.Join(err, d.shutDown(context.WithoutCancel(ctx)))
	working.Wait()
	return err
}

// releaseReserve is the part of the shutdown time-out that is kept for
// releasing keys: the engine's own limit for that, and a second for closing the
// listeners.
const releaseReserve = 6 * time.Second

// workingTime is the part of the shutdown time-out in which running work may
// end.
func workingTime(shutdownTimeout time.Duration) time.Duration {
	return shutdownTimeout - min(shutdownTimeout/2, releaseReserve)
}

// shutDown drains while the listeners still answer, waits for running work,
// releases the keys of what is left, and closes the listeners.
func (d *daemon) shutDown(ctx context.Context) error {
	start := time.Now()
	d.log.InfoContext(ctx, "draining", slog.Float64("timeout_seconds", d.shutdownTimeout.Seconds()))
	d.drain()
	working, cancel := context.WithTimeout(ctx, workingTime(d.shutdownTimeout))
	defer cancel()
	released := d.engine.Shutdown(working)
	closing, cancel := context.WithDeadline(ctx, start.Add(max(d.shutdownTimeout, time.Since(start)+time.Second)))
	defer cancel()
	var errs []error
	for _, server := range d.servers {
		if err := server.Shutdown(closing); err != nil {
			errs = append(errs, server.Close())
		}
	}
	d.log.InfoContext(ctx, "stopped", slog.Int("released", released), slog.Float64("seconds", time.Since(start).Seconds()))
	return errors.Join(errs...)
}
