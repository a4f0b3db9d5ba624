package commands

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/audit"
)

// eventCorruptions are statements that break an invariant of a ride that was
// declined, paid late and refunded, whose hail has the key $1. The check that
// the name begins with must find it.
func eventCorruptions() map[string]string {
	const late = ` WHERE key = (SELECT 'refund_late→' || payment_intent_id FROM rides WHERE key = $1)`
	const ofRide = ` ride_id = (SELECT id FROM rides WHERE key = $1)`
	const event = `INSERT INTO stripe_events (id, type, object, object_id, livemode, owner_id, ride_id, received_at, run_after, worked_at, outcome)
		SELECT 'evt_' || id, 'payment_intent.succeeded', 'payment_intent', payment_intent_id, false, account_id, id, `
	const ended = `WITH a AS (DELETE FROM audit_records WHERE action = 'ride.refunded_late' AND` + ofRide + `) `
	return map[string]string{
		"events-are-worked/overdue":           event + `now(), now() - interval '1 hour', NULL, NULL FROM rides WHERE key = $1`,
		"events-are-worked/for-days":          event + `now() - interval '2 days', now() + interval '1 minute', NULL, NULL FROM rides WHERE key = $1`,
		"event-has-its-effect/late":           `DELETE FROM audit_records WHERE action = 'ride.charged_late' AND` + ofRide,
		"event-has-its-effect/refund-failed":  event + `now(), now(), now(), 'refund_failed' FROM rides WHERE key = $1`,
		"event-has-its-effect/orphan":         event + `now(), now(), now(), 'orphan' FROM rides WHERE key = $1`,
		"late-success-is-given-back":          ended + `DELETE FROM idempotency_keys` + late,
		"late-refund-has-its-ride/charged":    `UPDATE rides SET status = 'charged', charge_id = 'ch_' || id WHERE key = $1`,
		"late-refund-has-its-ride/none":       `UPDATE idempotency_keys SET params = '{"id":"ride_other"}'` + late,
		"late-refund-has-its-ride/not-shown":  `UPDATE rides SET refund_id = NULL, refund_status = NULL, refund_amount = NULL WHERE key = $1`,
		"declined-payment-is-closed/overdue":  `INSERT INTO open_intents SELECT account_id, payment_intent_id, id, 'op', false, now(), 3, now() - interval '1 hour' FROM rides WHERE key = $1`,
		"declined-payment-is-closed/for-days": `INSERT INTO open_intents SELECT account_id, payment_intent_id, id, 'op', false, now() - interval '2 days', 3, now() FROM rides WHERE key = $1`,
		"foreign-key-is-stable/late":          `UPDATE idempotency_keys SET foreign_key = 'random'` + late,
		"parked-behind-an-event": `
			WITH e AS (` + event + `now(), now(), now() - interval '1 minute', 'hastened' FROM rides WHERE key = $1),
			a AS (INSERT INTO audit_records SELECT account_id, 'aud_' || id, 'key.parked', NULL, jsonb_build_object('key', key), now() FROM rides WHERE key = $1)
			UPDATE idempotency_keys
			SET recovery_point = 'ride_created', finished_at = NULL, foreign_form = foreign_key, response_status = NULL, parked_reason = 'stripe_500'
			WHERE key = $1`,
		"money-has-a-ride/late-refund-failed": ``,
	}
}

func TestAuditFindsEveryCorruptionOfAnEvent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	corruptions := eventCorruptions()
	const failed = "money-has-a-ride/late-refund-failed"
	api := s.start(t, "api")
	s.addAccount(t, "declined", "pm_card_chargeCustomerFail")
	for name := range corruptions {
		if got := s.hail(api, name); got.status != http.StatusPaymentRequired {
			t.Fatalf("%d %s", got.status, got.body)
		}
		s.payAfterAll(t, name)
	}
	s.must(t, "completer", "events", "sweep")
	s.exec(t, `UPDATE audit_records SET created_at = now() - interval '1 hour' WHERE action = 'ride.charged_late'`)
	s.audit(t, 0)
	for name, sql := range corruptions {
		if sql != "" {
			s.exec(t, sql, name)
		}
	}
	if err := s.fake.ChangeRefund(text(t, s, `SELECT refund_id FROM rides WHERE key = $1`, failed), "failed"); err != nil {
		t.Fatal(err)
	}
	report := s.audit(t, 1)
	for name := range corruptions {
		check, _, _ := strings.Cut(name, "/")
		ride := text(t, s, `SELECT id FROM rides WHERE key = $1`, name)
		intent := text(t, s, `SELECT payment_intent_id FROM rides WHERE key = $1`, name)
		if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool {
			return f.Check == check && (f.Ride == ride || f.Key == name || strings.HasSuffix(f.Key, intent))
		}) {
			t.Errorf("%q is not found", name)
		}
	}
}

// A late refund that hasn't reached Stripe yet, and events that wait for a
// moment, or for a person to decide about a parked key, violate nothing.
func TestAuditAcceptsALateRefundThatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	s.payLate(t, api)
	s.script(t, `{"kind":"drop_before","times":-1,"match":{"path":"/v1/refunds"}}`)
	s.must(t, "completer", "events", "sweep")
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys WHERE flow = 'refund_late' AND finished_at IS NULL`); n != 1 {
		t.Errorf("%d late refunds are under way", n)
	}
	for _, e := range s.fake.Events() {
		if got := s.deliver(t, api, e.ID, "snapshot", ""); got != http.StatusOK {
			t.Errorf("%s is answered with %d", e.Type, got)
		}
	}
	s.exec(t, `
		INSERT INTO stripe_events (id, type, object, object_id, livemode, received_at, run_after, last_error)
		VALUES ('evt_parked', 'charge.dispute.created', 'dispute', 'dp_1', false, now() - interval '9 days', now() + interval '5 minutes', 'for_a_person')`)
	s.audit(t, 0)
}
