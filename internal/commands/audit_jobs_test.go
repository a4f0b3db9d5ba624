package commands

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/audit"
)

// callbackCorruptions are statements that break an invariant of a ride whose
// hail has the key $1, and whose callbacks were delivered. It is canceled,
// unless the name ends in "declined". The check that the name begins with must
// find it.
func callbackCorruptions() map[string]string {
	const log, where, ofCancel = `UPDATE callbacks SET `, ` WHERE key = $1`, ` WHERE key = $1 || '/cancel'`
	const args = `jsonb_build_object('type', type, 'ride_id', ride_id, 'url', url, 'ride', 'null')`
	return map[string]string{
		"end-has-its-callback/charged":           `DELETE FROM callbacks` + where,
		"end-has-its-callback/canceled":          `DELETE FROM callbacks` + ofCancel,
		"end-has-its-callback/declined":          `DELETE FROM callbacks` + where,
		"end-has-its-callback/refund-failed":     `INSERT INTO audit_records (account_id, id, action, ride_id, data) SELECT account_id, 'aud_1', 'ride.refund_failed', id, '{}' FROM rides` + where,
		"end-has-its-receipt/declined":           `UPDATE idempotency_keys SET async = true` + where,
		"callback-is-true/another-state":         log + `type = 'ride.declined'` + where,
		"callback-is-true/not-canceled":          `UPDATE rides SET status = 'charged'` + where,
		"callback-is-true/of-nothing":            log + `ride_id = 'ride_other'` + where,
		"callback-is-true/another-address":       log + `url = 'https://example.com/'` + where,
		"callback-is-true/body-of-another":       log + `body = '{"data":{"id":"ride_other","status":"charged"}}'` + where,
		"callback-is-true/another-fare":          ``,
		"callback-is-true/no-such-failure":       log + `type = 'ride.refund_failed'` + where,
		"callback-is-true/staged":                `INSERT INTO staged_jobs (account_id, id, key, kind, args) SELECT account_id, 'job_s', key, 'callback', ` + args + ` || '{"type": "ride.declined"}' FROM callbacks` + where,
		"callback-is-true/relayed":               `INSERT INTO river.river_job (kind, args, max_attempts) SELECT 'callback/1', jsonb_build_object('account_id', account_id, 'key', key, 'job', ` + args + ` || '{"type": "ride.pending"}'), 1 FROM callbacks` + where,
		"delivered-is-acknowledged/refused":      log + `last_status = 500` + where,
		"delivered-is-acknowledged/never-sent":   log + `last_status = NULL, attempts = 0` + where,
		"callback-has-its-job/done":              log + `status = 'pending', ended_at = NULL` + where,
		"callback-has-its-job/canceled/declined": `WITH c AS (UPDATE callbacks SET status = 'pending', ended_at = NULL WHERE key = $1 RETURNING job_id) UPDATE river.river_job SET state = 'cancelled' FROM c WHERE args ->> 'id' = job_id`,
		"jobs-are-not-overdue/staged":            `INSERT INTO staged_jobs (account_id, id, key, kind, args, created_at) SELECT account_id, 'job_o', key, 'receipt', jsonb_build_object('ride_id', id), now() - interval '11 minutes' FROM rides` + where,
		"jobs-are-not-overdue/due":               `UPDATE river.river_job SET state = 'retryable', finalized_at = NULL, scheduled_at = now() - interval '11 minutes' WHERE args ->> 'key' = $1`,
		"jobs-are-not-overdue/running":           `UPDATE river.river_job SET state = 'running', finalized_at = NULL, attempted_at = now() - interval '11 minutes' WHERE args ->> 'key' = $1`,
	}
}

func TestAuditFindsEveryCorruptionOfAJob(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	api := s.start(t, "api", "CALLBACK_ALLOW=127.0.0.0/8")
	corruptions := callbackCorruptions()
	for name := range corruptions {
		if strings.HasSuffix(name, "declined") {
			s.script(t, `[{"kind":"402","decline_code":"lost_card"}]`)
			if got := s.hailTo(api, name, receiver.URL); got.status != http.StatusPaymentRequired {
				t.Fatalf("%d %s", got.status, got.body)
			}
			continue
		}
		if got := s.hailTo(api, name, receiver.URL); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if got := s.cancel(t, api, name, name+"/cancel"); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	s.audit(t, 0) // while they are staged
	s.must(t, "completer", "once", "--callback-allow=127.0.0.0/8")
	s.audit(t, 0) // when they are delivered
	for name, sql := range corruptions {
		if sql != "" {
			s.exec(t, sql, name)
		}
	}
	const fare = "callback-is-true/another-fare"
	body := text(t, s, `SELECT convert_from(body, 'UTF8') FROM callbacks WHERE key = $1`, fare)
	s.exec(t, `UPDATE callbacks SET body = $2 WHERE key = $1`, fare, []byte(strings.Replace(body, "2350", "2351", 1)))
	report := s.audit(t, 1)
	for name := range corruptions {
		check, _, _ := strings.Cut(name, "/")
		if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool {
			return f.Check == check && (f.Key == name || f.Key == name+"/cancel")
		}) {
			t.Errorf("%q is not found", name)
		}
	}
}
