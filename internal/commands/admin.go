package commands

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// adminAddressFlags say where the admin listener is. The completer sets another
// default, so that both programs run on one machine.
type adminAddressFlags struct {
	AdminListen string `help:"Address for operators: /healthz, /readyz, /metrics." default:"${admin_listen=127.0.0.1:9090}" env:"ADMIN_LISTEN"`
}

func (f adminAddressFlags) checkAdmin() error {
	return cli.CheckAddress("admin-listen", f.AdminListen)
}

// adminFlags are the flags of the admin listener.
type adminFlags struct {
	adminAddressFlags
	Pprof bool `help:"Serve profiles at /debug/pprof/ of the admin address." env:"PPROF"`
}

// newRegistry returns a registry with the metrics that every program has.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rides_build_info", Help: "The version of the program, as a label; the value is 1.",
		ConstLabels: prometheus.Labels{"version": cli.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// adminHandler serves the admin listener. ready returns nil when the process
// can serve.
func (f adminFlags) adminHandler(registry *prometheus.Registry, ready func(context.Context) error) http.Handler {
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
	if f.Pprof {
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

// ready returns a check of whether a process can serve: its database is
// reachable, migrated and writable, and it isn't shutting down. Trouble at
// Stripe doesn't count, because another instance would have the same.
func (p engineParts) ready(draining func() bool) func(context.Context) error {
	return func(ctx context.Context) error {
		if draining() {
			return errDraining
		}
		return p.health.Check(ctx, p.pool)
	}
}
