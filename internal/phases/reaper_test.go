package phases_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestReaping(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "old")
	b.mustRun(t, "young")
	b.carrier.set(hooks{answer: "odd"})
	_, _ = b.run(t, "parked")
	b.carrier.set(hooks{})
	_ = b.sendOnce(t, "unfinished", hooks{after: lost})
	b.unwatch(t)
	b.exec(t, `UPDATE idempotency_keys SET created_at = now() - interval '1 year', run_after = now() + interval '1 hour'
		WHERE key <> 'young'`)
	b.exec(t, `UPDATE idempotency_keys SET finished_at = now() - interval '1 year' WHERE key <> 'young' AND finished_at IS NOT NULL`)
	b.watch(t)

	if counts := b.complete(t); counts != (phases.Counts{Reaped: 1, Waiting: 1}) {
		t.Errorf("the completer did %+v, want one key reaped", counts)
	}
	if _, err := b.run(t, "old"); !errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("the reaped key gives %v, want ErrKeyExpired", err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key = 'old' AND params = '' AND response_body IS NULL AND foreign_form IS NULL`); n != 1 {
		t.Error("the reaped key was not emptied")
	}
	if !b.mustRun(t, "young").Replayed {
		t.Error("the young key was reaped")
	}
	if _, err := b.run(t, "parked"); !errors.Is(err, phases.ErrParked) {
		t.Errorf("the parked key gives %v", err)
	}
	b.mustRun(t, "unfinished")
	b.checkDone(t, "unfinished")

	// The tombstone is deleted later. Then the flow's own constraint refuses
	// the key.
	b.exec(t, `UPDATE idempotency_keys SET reaped_at = now() - interval '31 days' WHERE key = 'old'`)
	if counts := b.complete(t); counts.Deleted != 1 {
		t.Errorf("the completer did %+v, want one tombstone deleted", counts)
	}
	if _, err := b.run(t, "old"); !errors.Is(err, phases.ErrKeyExpired) {
		t.Errorf("without its tombstone the key gives %v, want ErrKeyExpired", err)
	}
	if got := len(b.carrier.sent()); got != 5 {
		t.Errorf("%d sends, want 5", got)
	}
}

func TestReapingGoesOnBeyondABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
		canon_version, params, recovery_point, lease_epoch, attempts, finished_at, response_status, response_headers, response_body)
		SELECT 'acct_' || n % 7, 'k' || n, 'parcel', 1, 'test', '', '', '', '', 1, '', 'finished', 1, 1, now() - interval '1 year', 200, '{}', ''
		FROM generate_series(1, 1234) n`)
	if counts := b.complete(t); counts.Reaped != 1234 {
		t.Errorf("reaped %d of 1234", counts.Reaped)
	}
}

// TestATombstoneIsDeletedOnlyAsItWasSeen: between the list and the DELETE, the
// tombstone was deleted and the key made again.
func TestATombstoneIsDeletedOnlyAsItWasSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "k")
	b.unwatch(t)
	b.exec(t, `UPDATE idempotency_keys SET reaped_at = now() - interval '31 days', finished_at = now() - interval '1 year'`)
	w := wire.NewPostgres()
	engine := b.newEngine(t, w)
	w.Plan(func(_ int, message []byte) wire.Fault {
		if bytes.Contains(message, []byte("DELETE FROM idempotency_keys")) {
			b.exec(t, `DELETE FROM idempotency_keys`)
			b.exec(t, `DELETE FROM parcels`)
			b.carrier.set(hooks{before: lost})
			_, _ = b.run(t, "k")
		}
		return wire.Fault{}
	})
	if counts, err := b.completer(engine).Once(t.Context()); err != nil || counts.Deleted != 0 {
		t.Errorf("it did %+v, %v", counts, err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL`); n != 1 {
		t.Error("an unfinished key was deleted")
	}
}

// TestReapingLeavesOtherRealmsAlone: the completers of another realm may have
// another retention (I26).
func TestReapingLeavesOtherRealmsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"ours", "theirs"} {
		b.mustRun(t, key)
	}
	b.unwatch(t)
	b.exec(t, `UPDATE idempotency_keys SET finished_at = now() - interval '1 year'`)
	b.exec(t, `UPDATE idempotency_keys SET realm = 'live' WHERE key = 'theirs'`)
	if counts := b.complete(t); counts != (phases.Counts{Reaped: 1}) {
		t.Errorf("the completer did %+v, want one key reaped", counts)
	}
	b.exec(t, `UPDATE idempotency_keys SET reaped_at = now() - interval '1 year'`)
	if counts := b.complete(t); counts != (phases.Counts{Deleted: 1}) {
		t.Errorf("the completer did %+v, want one tombstone deleted", counts)
	}
}
