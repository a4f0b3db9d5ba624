package rides

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestRowsThatContradictThemselvesAreRefused: whatever a statement gets wrong,
// the database takes no key and no ride that can't be (I2, I12).
func TestRowsThatContradictThemselvesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	h.hailAs(t, h.visa, "open").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	h.hailAs(t, h.visa, "newer").must(t, 503, web.CodePaymentProcessorUnavailable)
	// A newer release may be tried beside this schema.
	h.exec(t, `UPDATE idempotency_keys SET flow_version = 99 WHERE key = 'newer'`)
	const held = `lease_token = '00000000-0000-4000-8000-000000000001', leased_until = now()`
	for name, change := range map[string]struct{ table, key, set string }{
		"a key without a name":          {"idempotency_keys", "done", `key = ''`},
		"a key that is too long":        {"idempotency_keys", "done", `key = repeat('k', 256)`},
		"finished, and never":           {"idempotency_keys", "done", `finished_at = NULL`},
		"finished, and not at the end":  {"idempotency_keys", "done", `recovery_point = 'charge_created'`},
		"at the end, and not finished":  {"idempotency_keys", "open", `recovery_point = 'finished'`},
		"finished without a status":     {"idempotency_keys", "done", `response_status = NULL`},
		"finished without headers":      {"idempotency_keys", "done", `response_headers = NULL`},
		"finished without a body":       {"idempotency_keys", "done", `response_body = NULL`},
		"finished and held":             {"idempotency_keys", "done", held},
		"finished and parked":           {"idempotency_keys", "done", `parked_reason = 'odd'`},
		"reaped unfinished":             {"idempotency_keys", "open", `reaped_at = now()`},
		"held without a lease":          {"idempotency_keys", "open", `lease_token = '00000000-0000-4000-8000-000000000001', leased_until = NULL`},
		"held and parked":               {"idempotency_keys", "open", held + `, parked_reason = 'odd'`},
		"sent without a form":           {"idempotency_keys", "open", `foreign_form = NULL`},
		"sent without a key":            {"idempotency_keys", "open", `foreign_key = NULL`},
		"at a point of another flow":    {"idempotency_keys", "open", `recovery_point = 'refund_created'`},
		"at no point":                   {"idempotency_keys", "open", `flow_version = 99, recovery_point = ''`},
		"a ride that costs nothing":     {"rides", "done", `fare_amount = 0`},
		"a currency that is none":       {"rides", "done", `fare_currency = 'USD'`},
		"a status that is none":         {"rides", "open", `status = 'odd'`},
		"pending and charged":           {"rides", "open", `charge_id = 'ch_other'`},
		"declined and charged":          {"rides", "done", `status = 'declined'`},
		"charged without a charge":      {"rides", "done", `charge_id = NULL`},
		"charged without an intent":     {"rides", "done", `payment_intent_id = NULL`},
		"canceled without a charge":     {"rides", "open", `status = 'canceled', refund_id = 're', refund_status = 'succeeded', refund_amount = 1`},
		"canceled without a refund":     {"rides", "done", `status = 'canceled'`},
		"a refund without an amount":    {"rides", "done", `refund_id = 're', refund_status = 'pending'`},
		"a refund whose status is none": {"rides", "done", `refund_id = 're', refund_status = 'odd', refund_amount = 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
				// Without the tripwires, which would be first.
				if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), `UPDATE `+change.table+` SET `+change.set+` WHERE account_id = $1 AND key = $2`,
					h.visa.AccountID, change.key)
				return err
			})
			// Citus tells the name of the constraint in the message only.
			violated, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || violated.Code != pgerrcode.CheckViolation || !strings.Contains(violated.Message, change.table+"_sound") {
				t.Errorf("%v, want %s_sound violated", err, change.table)
			}
		})
	}
}
