package payments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A StripeAccount is an account at Stripe that charges of this database go to,
// or went to.
type StripeAccount struct {
	ID       string     `json:"account_id"`
	Livemode bool       `json:"livemode"`
	Realm    string     `json:"realm"` // of the idempotency keys made under it
	PinnedAt time.Time  `json:"pinned_at"`
	LeftAt   *time.Time `json:"left_at"` // nil for the present one of its mode
}

const stripeAccountColumns = `account_id, livemode, realm, pinned_at, left_at`

// StripeAccounts returns all accounts on record, the oldest first.
func StripeAccounts(ctx context.Context, pool *pgxpool.Pool) ([]StripeAccount, error) {
	rows, err := pool.Query(ctx, `
		SELECT `+stripeAccountColumns+`
		FROM stripe_accounts
		ORDER BY pinned_at, account_id`)
	if err != nil {
		return nil, fmt.Errorf("listing Stripe accounts: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[StripeAccount])
	if err != nil {
		return nil, fmt.Errorf("listing Stripe accounts: %w", err)
	}
	return found, nil
}

// presentAccount returns the account that charges of a mode go to, or the
// zero StripeAccount if there is none on record.
func presentAccount(ctx context.Context, pool *pgxpool.Pool, live bool) (StripeAccount, error) {
	rows, err := pool.Query(ctx, `
		SELECT `+stripeAccountColumns+`
		FROM stripe_accounts
		WHERE livemode = $1 AND left_at IS NULL`,
		live)
	if err != nil {
		return StripeAccount{}, fmt.Errorf("reading the Stripe account on record: %w", err)
	}
	found, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[StripeAccount])
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return StripeAccount{}, fmt.Errorf("reading the Stripe account on record: %w", err)
	}
	return found, nil
}

// pinAccount records an account for a mode that has none, and returns the
// one on record. Of two processes that do so at once, one is too late. The realm
// of the first account is the mode alone, as in keys that are older than this
// record.
func pinAccount(ctx context.Context, pool *pgxpool.Pool, id string, live bool) (StripeAccount, error) {
	onRecord, err := presentAccount(ctx, pool, live)
	if err != nil || onRecord.ID != "" {
		return onRecord, err
	}
	if _, err := pool.Exec(ctx, `
		INSERT INTO stripe_accounts (account_id, livemode, realm)
		VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`,
		id, live, ModeName(live)); err != nil {
		return StripeAccount{}, fmt.Errorf("recording the Stripe account: %w", err)
	}
	return presentAccount(ctx, pool, live)
}

// ErrUnfinished means that work of the present Stripe account is not done yet.
// Only a process that has a key of that account can do it.
var ErrUnfinished = errors.New("the present Stripe account has unfinished work")

// MoveAccount makes the account with the id the present one of a mode, and
// records who moved. No api or completer should run meanwhile: one that does
// goes on with the old account for up to an hour. The error wraps
// ErrUnfinished if anything is left to do under the old one.
func MoveAccount(ctx context.Context, pool *pgxpool.Pool, id string, live bool, by string) error {
	from, err := pinAccount(ctx, pool, id, live)
	if err != nil || from.ID == id {
		return err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := checkNothingUnfinished(ctx, tx, from); err != nil {
			return err
		}
		return moveStripeAccount(ctx, tx, from, id, live, by)
	})
	if err != nil {
		return fmt.Errorf("moving to %s: %w", id, err)
	}
	return nil
}

// checkNothingUnfinished returns an error if a key of an account's realm has no
// answer, if a declined payment of its mode may still be open, or if an event of
// its mode is not worked. At another account all of them would seem to be
// missing: the payment would be taken for closed, and could still be confirmed.
//
// Unfinished keys are counted in two parts, because each has an index.
func checkNothingUnfinished(ctx context.Context, tx pgx.Tx, from StripeAccount) error {
	var keys, payments, events int
	err := tx.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM idempotency_keys WHERE finished_at IS NULL AND parked_reason IS NULL AND realm = $1)
		         + (SELECT count(*) FROM idempotency_keys WHERE parked_reason IS NOT NULL AND realm = $1),
		       (SELECT count(*) FROM open_intents WHERE livemode = $2),
		       (SELECT count(*) FROM stripe_events WHERE account_id = '' AND worked_at IS NULL AND livemode = $2)`,
		from.Realm, from.Livemode).Scan(&keys, &payments, &events)
	if err == nil && keys+payments+events > 0 {
		err = fmt.Errorf("%w: keys without an answer: %d, declined payments that are still open: %d, events of Stripe's: %d; "+
			"let a completer do it, with the key of that account, and resolve what is parked (`completer keys list --unfinished`)",
			ErrUnfinished, keys, payments, events)
	}
	return err
}

// moveStripeAccount writes the rows. An account that was left earlier gets its
// old realm back.
func moveStripeAccount(ctx context.Context, tx pgx.Tx, from StripeAccount, id string, live bool, by string) error {
	data, err := json.Marshal(map[string]any{"by": by, "from": from.ID, "to": id, "livemode": live})
	if err != nil {
		return err
	}
	var batch pgx.Batch
	batch.Queue(`
		UPDATE stripe_accounts
		SET left_at = now()
		WHERE livemode = $1 AND left_at IS NULL`,
		live)
	batch.Queue(`
		INSERT INTO stripe_accounts (account_id, livemode, realm)
		VALUES ($1, $2, $3)
		ON CONFLICT (account_id, livemode) DO UPDATE SET left_at = NULL, pinned_at = now()`,
		id, live, ModeName(live)+"/"+id)
	// The record belongs to no account of ours.
	batch.Queue(`
		INSERT INTO audit_records (account_id, id, action, data)
		VALUES ('', $1, 'stripe_account.moved', $2)`,
		"aud_"+uuid.Must(uuid.NewV7()).String(), string(data))
	return tx.SendBatch(ctx, &batch).Close()
}
