package tripwire_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/tripwire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestEachFlowHasItsOwnOrder uses two flows that have the same points in
// another order, one of them in two versions.
func TestEachFlowHasItsOwnOrder(t *testing.T) {
	t.Parallel()
	pool := pgtest.Open(t, postgres.Options{URL: pgtest.URL(t)})
	end := phases.Atomic(phases.Finished, nil)
	first := phases.NewFlow("first", 1, phases.Atomic("paid", nil), phases.Atomic("packed", nil), end)
	second := phases.NewFlow("second", 1, phases.Atomic("packed", nil), phases.Atomic("paid", nil), end)
	later := phases.NewFlow("first", 2, phases.Atomic("paid", nil), phases.Atomic("weighed", nil), phases.Atomic("packed", nil), end)
	if err := tripwire.Install(t.Context(), pool, first, second, later); err != nil {
		t.Fatal(err)
	}
	for flow, refused := range map[string]bool{"first": false, "second": true, "unknown": true} {
		_, err := pool.Exec(t.Context(), `
			INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
			       canon_version, params, recovery_point, lease_epoch, attempts)
			VALUES ('acct_1', $1, $1, 1, 'test', 'req_1', 'POST', '/', '', 1, '{}', 'paid', 1, 1)`, flow)
		if err != nil {
			t.Fatal(err)
		}
		_, err = pool.Exec(t.Context(), `UPDATE idempotency_keys SET recovery_point = 'packed' WHERE flow = $1`, flow)
		pg, stopped := errors.AsType[*pgconn.PgError](err)
		if stopped != refused || stopped && tripwire.Invariant(pg.Code) != "I7" {
			t.Errorf("%s: stopped: %t, %v", flow, stopped, err)
		}
	}
}
