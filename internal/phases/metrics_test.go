package phases_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestGaugesAreRemovedWhenNothingIsCounted: old numbers would hide what has
// happened since, and zeros that keys of a realm wait which isn't known just now.
func TestGaugesAreRemovedWhenNothingIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	registry := prometheus.NewRegistry()
	var lost atomic.Bool
	engine := b.newEngine(t, nil, func(c *phases.Config) {
		c.Metrics = registry
		c.Realm = func() string {
			if lost.Load() {
				return ""
			}
			return "test"
		}
	})
	if got := gauges(t, registry); got != 0 {
		t.Errorf("%d gauges are shown before anything was counted", got)
	}
	for _, step := range []struct {
		name, sql string
		lost      bool // the realm
		want      int
	}{
		{"a count", `SELECT`, false, 3},
		{"a count that fails", `ALTER TABLE idempotency_keys RENAME TO renamed`, false, 0},
		{"the next one", `ALTER TABLE renamed RENAME TO idempotency_keys`, false, 3},
		{"the realm is lost", `SELECT`, true, 0},
		{"it is back", `SELECT`, false, 3},
	} {
		b.exec(t, step.sql)
		lost.Store(step.lost)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.completer(engine).Run(ctx) }() // it counts as it starts
		deadline := time.Now().Add(10 * time.Second)
		for gauges(t, registry) != step.want && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if got := gauges(t, registry); got != step.want {
			t.Errorf("after %s %d gauges are shown, want %d", step.name, got, step.want)
		}
		stop()
		<-done
	}
}

// gauges counts those gauges for alerts that are shown.
func gauges(t *testing.T, registry *prometheus.Registry) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, family := range families {
		if slices.Contains([]string{"phases_unfinished_keys", "phases_parked_keys", "phases_oldest_unfinished_seconds"}, family.GetName()) {
			shown++
		}
	}
	return shown
}

// counter returns the value of a counter without labels.
func counter(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
