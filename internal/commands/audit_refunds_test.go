package commands

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/audit"
)

// cancel cancels the ride of a hail's key, under a key of its own.
func (s *scene) cancel(t *testing.T, p *process, hail, key string) answer {
	t.Helper()
	ride := text(t, s, `SELECT id FROM rides WHERE key = $1`, hail)
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.api+"/v1/rides/"+ride+"/cancel", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.apiKey)
	request.Header.Set("Idempotency-Key", key)
	response, err := s.roundTrip(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

// canceled returns an api, and as many rides as there are names. Each was hailed
// under its name and canceled under the name and "/cancel".
func (s *scene) canceled(t *testing.T, names ...string) *process {
	t.Helper()
	api := s.start(t, "api")
	for _, name := range names {
		if got := s.hail(api, name); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if got := s.cancel(t, api, name, name+"/cancel"); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	return api
}

// refundCorruptions are statements that break an invariant of a canceled ride,
// whose hail has the key $1. The check that the name begins with must find it.
func refundCorruptions() map[string]string {
	const cancel, ride = `UPDATE idempotency_keys SET `, `UPDATE rides SET `
	const where, ofCancel = ` WHERE key = $1`, ` WHERE key = $1 || '/cancel'`
	return map[string]string{
		"cancel-has-its-ride/freed":           ride + `status = 'charged', cancel_key = NULL` + where,
		"cancel-has-its-ride/charged":         ride + `status = 'charged'` + where,
		"canceled-by-its-key/nobody":          ride + `cancel_key = NULL` + where,
		"canceled-by-its-key/a-key-not-there": cancel + `recovery_point = 'started', finished_at = NULL, foreign_form = foreign_key, response_status = NULL` + ofCancel,
		"canceled-by-its-key/one-refused":     cancel + `response_status = 409` + ofCancel,
		"claim-is-held/finished":              ride + `status = 'charged'` + where,
		"claim-is-held/gone":                  ride + `status = 'charged', cancel_key = 'nobody'` + where,
		"refund-is-the-fare/a-part":           ride + `refund_amount = 1` + where,
		"refund-is-the-fare/more":             ride + `refund_amount = fare_amount + 1` + where,
		"refund-is-the-fare/pending":          ride + `refund_status = 'pending'` + where,
		"end-has-its-receipt":                 `DELETE FROM staged_jobs` + ofCancel,
		"foreign-key-is-stable/refund":        cancel + `foreign_key = 'random'` + ofCancel,
		"ride-has-its-money/forgotten-refund": ride + `status = 'charged', cancel_key = NULL, refund_id = NULL, refund_status = NULL, refund_amount = NULL` + where,
		"ride-has-its-money/failed-later":     ``,
		"refunded-once/one-key":               ``,
	}
}

func TestAuditFindsEveryCorruptionOfARefund(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	corruptions := refundCorruptions()
	var names []string
	for name := range corruptions {
		names = append(names, name)
	}
	s.canceled(t, names...)
	if report := s.audit(t, 0); report.Rides != int64(len(names)) {
		t.Errorf("the audit saw %d rides, want %d", report.Rides, len(names))
	}
	for name, sql := range corruptions {
		if sql != "" {
			s.exec(t, sql, name)
		}
	}
	const failed, twice = "ride-has-its-money/failed-later", "refunded-once/one-key"
	if err := s.fake.ChangeRefund(text(t, s, `SELECT refund_id FROM rides WHERE key = $1`, failed), "failed"); err != nil {
		t.Fatal(err)
	}
	s.refundTwice(t, twice)
	report := s.audit(t, 1)
	for name := range corruptions {
		check, _, _ := strings.Cut(name, "/")
		ride := text(t, s, `SELECT id FROM rides WHERE key = $1`, name)
		if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool {
			return f.Check == check && (strings.HasPrefix(f.Key, name) || f.Ride == ride)
		}) {
			t.Errorf("%q is not found", name)
		}
	}
}

// refundTwice makes another refund at Stripe that carries the operation of a
// ride's cancel, for another payment.
func (s *scene) refundTwice(t *testing.T, name string) {
	t.Helper()
	s.chargeAgain(t, name)
	intents := s.fake.PaymentIntents()
	intent := text(t, s, `SELECT payment_intent_id FROM rides WHERE key = $1`, name)
	s.post(t, "/v1/refunds", strings.Replace(s.sent(t, name+"/cancel"), intent, intents[len(intents)-1].ID, 1))
}

// Cancels that are pending, parked, refused or whose refund has failed since
// violate nothing, and neither does a refund from the dashboard that is shown.
func TestAuditAcceptsRefundsInEveryState(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.canceled(t, "canceled", "failed-later")
	for i, status := range []string{"pending", "parked", "failed", "lost"} {
		if got := s.hail(api, status); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
		fault := fmt.Sprintf(`{"kind":"refund","refund":%q,"match":{"path":"/v1/refunds"}}`, []string{"pending", "pending", "failed"}[min(i, 2)])
		if status == "lost" {
			fault = `{"kind":"drop_after","match":{"path":"/v1/refunds"}}`
		}
		s.script(t, fault)
		if got := s.cancel(t, api, status, status+"/cancel"); !slices.Contains([]int{202, 409, 503}, got.status) {
			t.Errorf("%s was answered %d %s", status, got.status, got.body)
		}
	}
	s.must(t, "completer", "keys", "park", "parked/cancel")
	s.exec(t, `UPDATE idempotency_keys SET run_after = now() + interval '1 hour' WHERE finished_at IS NULL`)
	if err := s.fake.ChangeRefund(text(t, s, `SELECT refund_id FROM rides WHERE key = 'failed-later'`), "failed"); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `UPDATE rides SET refund_status = 'failed' WHERE key = 'failed-later'`)
	if report := s.audit(t, 0); report.Rides != 6 {
		t.Errorf("the report is %+v", report)
	}
}
