package commands

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/audit"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// corruptions are statements that break an invariant of a finished key, given
// as $1. Each is applied to a key of its own, and the check that its name
// begins with must find it.
var corruptions = map[string]string{
	"answer-has-its-ride/other-charge":          `UPDATE rides SET charge_id = 'ch_other' WHERE key = $1`,
	"answer-has-its-ride/other-fare":            `UPDATE rides SET fare_amount = fare_amount + 1 WHERE key = $1`,
	"answer-has-its-ride/no-ride":               `DELETE FROM rides WHERE key = $1`,
	"refused-means-not-charged":                 `UPDATE idempotency_keys SET response_status = 402 WHERE key = $1`,
	"ride-agrees-with-key":                      `UPDATE rides SET status = 'declined', charge_id = NULL WHERE key = $1`,
	"nothing-is-forgotten/key-gone":             `WITH r AS (UPDATE rides SET status = 'pending', charge_id = NULL WHERE key = $1 RETURNING key) DELETE FROM idempotency_keys k USING r WHERE k.key = r.key`,
	"key-has-its-ride":                          `WITH r AS (DELETE FROM rides WHERE key = $1 RETURNING key) UPDATE idempotency_keys k SET recovery_point = 'ride_created', finished_at = NULL, foreign_form = foreign_key, response_status = NULL FROM r WHERE k.key = r.key`,
	"ride-has-its-record/none":                  `DELETE FROM audit_records WHERE ride_id = (SELECT id FROM rides WHERE key = $1)`,
	"ride-has-its-record/two":                   `INSERT INTO audit_records SELECT account_id, id || '2', action, ride_id, data FROM audit_records WHERE ride_id = (SELECT id FROM rides WHERE key = $1)`,
	"end-has-its-receipt":                       `DELETE FROM staged_jobs WHERE key = $1`,
	"receipt-is-true/staged":                    `UPDATE staged_jobs SET args = args || '{"event": "canceled"}' WHERE key = $1`,
	"receipt-is-true/of-nothing":                `UPDATE staged_jobs SET args = args || '{"ride_id": "ride_other"}' WHERE key = $1`,
	"receipt-is-true/relayed":                   `WITH j AS (DELETE FROM staged_jobs WHERE key = $1 RETURNING *) INSERT INTO river.river_job (kind, args, max_attempts) SELECT 'receipt/1', jsonb_build_object('account_id', account_id, 'key', key, 'job', args || '{"event": "declined"}'), 1 FROM j`,
	"parked-is-recorded":                        `UPDATE idempotency_keys SET recovery_point = 'ride_created', finished_at = NULL, foreign_form = foreign_key, response_status = NULL, parked_reason = 'odd' WHERE key = $1`,
	"foreign-key-is-stable/another":             `UPDATE idempotency_keys SET foreign_key = 'random' WHERE key = $1`,
	"foreign-key-is-stable/form-of-another":     `UPDATE idempotency_keys SET foreign_form = 'amount=1' WHERE key = $1`,
	"charge-pays-one-ride":                      `INSERT INTO rides SELECT 'acct_other', id, key, status, origin_lat, origin_lon, target_lat, target_lon, fare_amount, fare_currency, charge_id, payment_intent_id, callback_url, created_at FROM rides WHERE key = $1`,
	"account-and-mode/live":                     `UPDATE idempotency_keys SET realm = 'live' WHERE key = $1`,
	"tombstones-are-empty":                      `UPDATE idempotency_keys SET reaped_at = now() WHERE key = $1`,
	"nothing-is-overdue":                        `UPDATE idempotency_keys SET recovery_point = 'charge_created', finished_at = NULL, foreign_form = foreign_key, response_status = NULL, run_after = now() - interval '1 hour' WHERE key = $1`,
	"ride-has-its-money/another-intent":         `UPDATE rides SET payment_intent_id = 'pi_other' WHERE key = $1`,
	"money-has-a-ride/no-ride":                  `DELETE FROM rides WHERE key = $1`,
	"money-has-a-ride/ride-is-declined":         `UPDATE rides SET status = 'declined', charge_id = NULL WHERE key = $1`,
	"charged-once/by-somebody-with-a-dashboard": ``,
	"charged-once/one-refunded-by-one-cent":     ``,
	"ride-has-its-money/refunded":               ``,
	"ride-has-its-money/paid-by-nothing-yet":    ``,
	"money-has-a-ride/refunded-by-one-cent":     `UPDATE rides SET status = 'declined', charge_id = NULL WHERE key = $1`,
}

func TestAuditFindsEveryCorruption(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	for name := range corruptions {
		if got := s.hail(api, name); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if report := s.audit(t, 0); report.Keys != int64(len(corruptions)) || report.Intents != len(corruptions) {
		t.Errorf("the audit saw %d keys and %d intents, want %d", report.Keys, report.Intents, len(corruptions))
	}
	for name, sql := range corruptions {
		if sql != "" {
			s.exec(t, sql, name)
		}
	}
	s.chargeAgain(t, "charged-once/by-somebody-with-a-dashboard")
	s.chargeAgain(t, "charged-once/one-refunded-by-one-cent")
	s.refund(t, "charged-once/one-refunded-by-one-cent", "1")
	s.refund(t, "ride-has-its-money/refunded", "")
	s.refund(t, "money-has-a-ride/refunded-by-one-cent", "1")
	s.payLater(t, "ride-has-its-money/paid-by-nothing-yet")
	report := s.audit(t, 1)
	for name := range corruptions {
		check, _, _ := strings.Cut(name, "/")
		if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool {
			return f.Check == check && (strings.HasPrefix(f.Key, name) || strings.HasSuffix(name, "/no-ride") && f.Key == "" && f.Ride != "")
		}) {
			t.Errorf("%q is not found", name)
		}
	}
}

func TestAuditFindsAMissingConstraint(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if code, _, stderr := s.run(t, "completer", "audit", "--overdue=0s"); code != 2 {
		t.Errorf("--overdue=0s exits with %d: %s", code, stderr)
	}
	if code, _, stderr := s.run(t, "completer", "audit", "--stripe-api-key="); code != 2 || !strings.Contains(stderr, "--no-stripe") {
		t.Errorf("without Stripe's key it exits with %d: %s", code, stderr)
	}
	pgtest.DropConstraint(t, s.databaseURL, "staged_jobs", "staged_jobs_pkey")
	code, stdout, stderr := s.run(t, "completer", "audit", "--no-stripe", "--stripe-api-key=")
	if want := "constraints-are-in-force: the index staged_jobs_pkey is missing or not valid\n"; code != 1 || stdout != want {
		t.Errorf("exit %d with %q and %s, want 1 with %q", code, stdout, stderr, want)
	}
}

// Keys that are unfinished, parked with a record, declined or reaped violate
// nothing.
func TestAuditAcceptsKeysInEveryState(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	s.script(t, `[{"kind":"500_saved_with_effect"},{"kind":"402","decline_code":"lost_card"},{"kind":"503"},{"kind":"503"}]`)
	for _, key := range []string{"charged-at-Stripe-only", "declined", "unfinished", "parked", "reaped"} {
		_ = s.hail(api, key)
	}
	s.must(t, "completer", "keys", "park", "parked")
	s.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour' WHERE finished_at IS NULL`)
	s.exec(t, `UPDATE idempotency_keys SET finished_at = now() - interval '4 days' WHERE key = 'reaped'`)
	s.must(t, "completer", "once")
	if got := number(t, s, `SELECT count(*) FROM idempotency_keys WHERE reaped_at IS NOT NULL OR finished_at IS NULL`); got != 4 {
		t.Errorf("%d keys are under way or reaped, want 4", got)
	}
	if report := s.audit(t, 0); report.Keys != 5 || len(report.Checks) < 15 {
		t.Errorf("the report is %+v", report)
	}
}

// A test key doesn't list live charges, so their absence from Stripe's list is
// no finding.
func TestAuditComparesOnlyItsOwnMode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, other := startFake(t)
	api := s.start(t, "api")
	if got := s.hail(api, "k"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	s.stripeURL = other // it has none of this database's intents
	if report := s.audit(t, 1); len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Detail, "no succeeded intent") {
		t.Errorf("the findings in its own mode are %v", report.Findings)
	}
	s.exec(t, `UPDATE accounts SET livemode = true`)
	s.exec(t, `UPDATE idempotency_keys SET realm = 'live'`)
	if report := s.audit(t, 0); report.Keys != 1 {
		t.Errorf("the report is %+v", report)
	}
}

func TestAuditSaysHowManyFindingsItLeavesOut(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	for _, key := range []string{"a", "b", "c"} {
		if got := s.hail(api, key); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	s.exec(t, `DELETE FROM staged_jobs`)
	s.exec(t, `UPDATE idempotency_keys SET foreign_key = 'random'`)
	code, stdout, _ := s.run(t, "completer", "audit", "--no-stripe", "--limit=1")
	lines := strings.Split(stdout, "\n")
	if code != 1 || len(lines) != 5 || !strings.HasPrefix(lines[0], "end-has-its-receipt ") || !strings.HasPrefix(lines[2], "foreign-key-is-stable ") {
		t.Fatalf("exit %d with %q", code, stdout)
	}
	for i, check := range map[int]string{1: "end-has-its-receipt", 3: "foreign-key-is-stable"} {
		if want := "… and 2 more of " + check + ": --limit shows more"; lines[i] != want {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if _, stdout, _ = s.run(t, "completer", "audit", "--no-stripe", "--limit=3"); strings.Contains(stdout, "more of") || strings.Count(stdout, "\n") != 6 {
		t.Errorf("a complete list is %q", stdout)
	}
}

// audit runs an audit that must exit with code, and returns its report.
func (s *scene) audit(t *testing.T, code int) audit.Report {
	t.Helper()
	got, stdout, stderr := s.run(t, "completer", "audit", "--json")
	if got != code {
		t.Fatalf("exit %d, want %d: %s%s", got, code, stdout, stderr)
	}
	var report audit.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	return report
}

func (s *scene) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := s.pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// chargeAgain charges a key's ride a second time, under another idempotency key
// at Stripe.
func (s *scene) chargeAgain(t *testing.T, key string) {
	t.Helper()
	s.post(t, "/v1/payment_intents", s.sent(t, key))
}

// sent returns the form that was sent to Stripe for a key.
func (s *scene) sent(t *testing.T, key string) string {
	t.Helper()
	foreign := text(t, s, `SELECT foreign_key FROM idempotency_keys WHERE key = $1`, key)
	for _, send := range s.fake.Ledger() {
		if send.Key == foreign {
			return send.Body
		}
	}
	t.Fatalf("nothing was sent for %s", key)
	return ""
}

// payLater points a key's ride to another payment intent, which is of the same
// ride but has not succeeded.
func (s *scene) payLater(t *testing.T, key string) {
	t.Helper()
	s.post(t, "/v1/payment_intents", strings.Replace(s.sent(t, key), "pm_card_visa", "pm_fake_processing", 1))
	for _, intent := range s.fake.PaymentIntents() {
		if intent.Status == "processing" {
			s.exec(t, `UPDATE rides SET payment_intent_id = $1 WHERE key = $2`, intent.ID, key)
			return
		}
	}
	t.Fatal("no payment intent is processing")
}

// refund refunds an amount of a ride's charge, or all of it when amount is
// empty.
func (s *scene) refund(t *testing.T, key, amount string) {
	t.Helper()
	form := url.Values{"payment_intent": {text(t, s, `SELECT payment_intent_id FROM rides WHERE key = $1`, key)}}
	if amount != "" {
		form.Set("amount", amount)
	}
	s.post(t, "/v1/refunds", form.Encode())
}

func text(t *testing.T, s *scene, sql string, args ...any) string {
	t.Helper()
	var value string
	if err := s.pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (s *scene) script(t *testing.T, faults string) {
	t.Helper()
	s.post(t, "/_fake/faults", faults)
}

// post sends a request to the fake, as a person at Stripe's dashboard would.
func (s *scene) post(t *testing.T, path, body string) {
	t.Helper()
	s.send(t, http.MethodPost, path, body)
}

func (s *scene) send(t *testing.T, method, path, body string) {
	t.Helper()
	s.sendAs(t, rand.Text(), method, path, body)
}

// sendAs sends a request to the fake under an idempotency key.
func (s *scene) sendAs(t *testing.T, key, method, path, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.stripeURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer sk_test_dashboard")
	request.Header.Set("Idempotency-Key", key)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= 300 {
		t.Fatalf("%s answers %d", path, response.StatusCode)
	}
}
