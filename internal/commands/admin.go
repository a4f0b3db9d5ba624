package commands

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
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

// newRegistry returns a registry with what every program measures.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// adminHandler serves what operators look at. ready returns nil when the
// process can serve.
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
