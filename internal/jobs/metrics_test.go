package jobs

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The gauges that alerts look at say what the database has. When it can't be
// asked, there are none.
func TestGaugesSayWhatIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stage(t, "job_", 3)
	b.exec(t, `INSERT INTO river.river_job (kind, args, max_attempts, state, finalized_at) VALUES ('receipt/1', '{}', 5, 'discarded', now())`)
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failures, switched_off_at)
		VALUES ('acct_1', 'a.example.com', 9, now()), ('acct_1', 'b.example.com', 9, NULL), ('acct_2', 'a.example.com', 9, now())`)
	registry := prometheus.NewRegistry()
	c := b.client(t, nil, b.deliver, func(c *Config) { c.Metrics = registry })
	check := func(want map[string]float64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, family := range families {
			got[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
		}
		for name, value := range want {
			if n, ok := got[name]; value < 0 && ok || value >= 0 && (!ok || n != value) {
				t.Errorf("%s is %v (%v), want %v", name, n, ok, value)
			}
		}
	}
	if err := c.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(map[string]float64{"rides_jobs_staged": 3, "rides_jobs_dead": 1, "rides_jobs_undelivered": 0, "rides_callback_endpoints_switched_off": 2})
	b.exec(t, `ALTER TABLE callback_endpoints RENAME TO gone`)
	defer b.exec(t, `ALTER TABLE gone RENAME TO callback_endpoints`)
	if err := c.count(t.Context()); err == nil {
		t.Error("counting without a table succeeds")
	}
	check(map[string]float64{"rides_jobs_staged": -1, "rides_jobs_dead": -1, "rides_callback_endpoints_switched_off": -1})
}
