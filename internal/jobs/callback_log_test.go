package jobs

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Records of callbacks that ended long ago are deleted, and no others.
func TestOldCallbacksAreDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, answering(http.StatusInternalServerError))
	b.stageCallbacks(t, "acct_1", "k", r.URL, 4)
	c := b.callbackClient(t)
	once(t, c)
	b.exec(t, `UPDATE callbacks SET status = 'given_up', ended_at = now() WHERE key <> 'k1'`)
	b.exec(t, `UPDATE callbacks SET created_at = now() - interval '31 days' WHERE key IN ('k1', 'k2', 'k3')`)
	b.exec(t, `UPDATE callbacks SET ended_at = now() - interval '31 days' WHERE key = 'k2'`)
	if err := c.deleteOldCallbacks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value[string](t, b, `SELECT string_agg(key, ' ' ORDER BY key) FROM callbacks`); got != "k1 k3 k4" {
		t.Errorf("%s are left, want k1, which has not ended, k3, which was sent again and has just ended, and k4, which is young", got)
	}
}

// Endpoints that nothing was sent to for a month are forgotten, unless they are
// switched off.
func TestOldEndpointsAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failing_since, failed_at, failures, switched_off_at) VALUES
		('acct_1', 'idle.example', now() - interval '60 days', now() - interval '31 days', 9, NULL),
		('acct_1', 'failing.example', now() - interval '60 days', now() - interval '29 days', 9, NULL),
		('acct_1', 'off.example', now() - interval '60 days', now() - interval '31 days', 9, now() - interval '31 days')`)
	if err := b.callbackClient(t).deleteOldCallbacks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value[string](t, b, `SELECT string_agg(host, ' ' ORDER BY host) FROM callback_endpoints`); got != "failing.example off.example" {
		t.Errorf("%s are left", got)
	}
}

// With rounds alone, as cron makes them, no table grows for ever either.
func TestRoundsDeleteWhatIsOld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addAccount(t, "acct_1")
	b.exec(t, `INSERT INTO callbacks (account_id, id, key, job_id, ride_id, type, url, body, status, created_at, retry_until, ended_at)
		SELECT 'acct_1', 'msg_' || age, age, 'job_' || age, 'ride_1', 'ride.charged', 'https://example.com', '{}', 'delivered',
		       now() - age::interval, now(), now() - age::interval
		FROM unnest(ARRAY['29 days', '31 days']) AS age`)
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failing_since, failed_at, failures)
		SELECT 'acct_1', age, now() - age::interval, now() - age::interval, 9
		FROM unnest(ARRAY['29 days', '31 days']) AS age`)
	b.exec(t, `INSERT INTO river.river_job (kind, args, max_attempts, state, finalized_at)
		SELECT age, '{}', 5, state::river.river_job_state, now() - age::interval
		FROM (VALUES ('completed', '23 hours'), ('completed', '25 hours'), ('discarded', '13 days'), ('discarded', '15 days'),
		             ('cancelled', '335 hours'), ('cancelled', '337 hours')) AS old (state, age)`)
	once(t, b.callbackClient(t))
	for what, c := range map[string]struct{ sql, want string }{
		"callbacks": {`SELECT string_agg(key, ', ') FROM callbacks`, "29 days"},
		"endpoints": {`SELECT string_agg(host, ', ') FROM callback_endpoints`, "29 days"},
		"jobs":      {`SELECT string_agg(kind, ', ' ORDER BY kind) FROM river.river_job`, "13 days, 23 hours, 335 hours"},
	} {
		if got := value[string](t, b, c.sql); got != c.want {
			t.Errorf("of the %s, those of %s are left, want %s", what, got, c.want)
		}
	}
}

// What became of callbacks is counted.
func TestCallbacksAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, func(w http.ResponseWriter, got received) {
		w.WriteHeader(map[string]int{"/ok": 200, "/gone": 410, "/fails": 500}[got.path])
	})
	for path, n := range map[string]int{"/ok": 3, "/gone": 2, "/fails": 4} {
		b.stageCallbacks(t, "acct_1", path, r.URL+path, n)
	}
	b.stageCallbacks(t, "acct_1", "refused", "https://10.0.0.1/", 1)
	b.stageCallbacks(t, "acct_2", "off", r.URL+"/ok", 5)
	b.exec(t, `INSERT INTO callback_endpoints (account_id, host, failures, switched_off_at) VALUES ('acct_2', $1, 9, now())`, strings.TrimPrefix(r.URL, "http://"))
	registry := prometheus.NewRegistry()
	c := b.callbackClient(t, func(c *Config) { c.Metrics = registry })
	once(t, c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "rides_callbacks_ended_total" {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	for name, want := range map[string]float64{
		"delivered": 3, "gone": 2,
		"given_up": 5, "refused": 1,
	} {
		if value, found := got[name]; !found || value != want {
			t.Errorf("%s is %v, want %v", name, value, want)
		}
	}
}
