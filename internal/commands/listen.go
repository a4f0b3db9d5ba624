package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rocketrides/rocketrides/internal/postgres"
)

// adminFlags say where operators look.
type adminFlags struct {
	Pprof           bool          `help:"Serve profiles at /debug/pprof/ of the admin address." env:"PPROF"`
	ShutdownTimeout time.Duration `help:"How long SIGTERM waits for what runs; the rest is given back to another process." default:"25s" env:"SHUTDOWN_TIMEOUT"`
}

// untilSignaled returns a context that ends with SIGINT or SIGTERM. Ctrl-C after
// that ends the process at once: whoever asks twice won't wait for what runs, and
// its keys are found when their leases end. A second SIGTERM changes nothing, for
// timeout and others pass one on twice.
func untilSignaled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(syscall.SIGINT) })
	return ctx, stop
}

// listen listens on an address, and says in one sentence when it is taken.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s; stop it, or choose another address with --%s", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s (--%s): %w", address, flag, err)
	}
	return listener, nil
}

// newServer returns an HTTP server with every limit set. How long a request may
// be worked on, and its answer written, is its handler's affair: a payment may
// take longer than a body.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // beyond it net/http answers by itself, and not with a problem
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// newRegistry returns a registry with what every program measures.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// adminHandler serves what operators look at. ready returns nil when the process
// can serve.
func adminHandler(registry *prometheus.Registry, ready func(context.Context) error, profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 5 * time.Second}))
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// errDraining fails /readyz during a shutdown.
var errDraining = errors.New("shutting down")

// ready tells whether a process can serve: its database is there and migrated,
// and it isn't shutting down. Trouble at Stripe is no reason: another instance
// would have the same.
func ready(pool *pgxpool.Pool, draining func() bool) func(context.Context) error {
	return func(ctx context.Context) error {
		if draining() {
			return errDraining
		}
		return postgres.CheckSchema(ctx, pool)
	}
}

// health asks the admin address of this program whether it is ready, for
// container checks in an image without a shell. An address that stands for all
// is asked on the loopback one.
func health(ctx context.Context, address, path string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading the address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking for its health: %w", err)
	}
	// A transport of its own asks no proxy.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking for its health: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}
