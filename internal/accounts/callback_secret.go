package accounts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RotateCallbackSecret gives an account a new secret for its callbacks, and
// returns it. For as long as overlap, callbacks are also signed with the former
// secrets, so that the receiver may change from one to the other at any time in
// between. until is the end of that. An overlap of 0 is for a secret that
// somebody else knows: it signs nothing any more, nor does an earlier one. The
// error is [ErrNoAccount] if there is no such account.
func (s Store) RotateCallbackSecret(ctx context.Context, account string, overlap time.Duration) (secret string, until time.Time, err error) {
	secret = newCallbackSecret()
	// Citus takes no now() beside columns.
	var now time.Time
	if err := s.Pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return "", time.Time{}, fmt.Errorf("reading the database's clock: %w", err)
	}
	err = s.Pool.QueryRow(ctx, `
		UPDATE accounts
		SET callback_secret = $2,
		    former_callback_secrets = CASE WHEN $3::interval > interval '0' THEN callback_secret || ARRAY(
		      SELECT f.secret
		      FROM unnest(former_callback_secrets, former_callback_secrets_until) AS f (secret, until)
		      WHERE f.until > $4 ORDER BY f.until DESC, f.secret) ELSE '{}' END,
		    former_callback_secrets_until = CASE WHEN $3::interval > interval '0' THEN $5::timestamptz || ARRAY(
		      SELECT f.until
		      FROM unnest(former_callback_secrets, former_callback_secrets_until) AS f (secret, until)
		      WHERE f.until > $4 ORDER BY f.until DESC, f.secret) ELSE '{}' END
		WHERE id = $1
		RETURNING coalesce(former_callback_secrets_until[1], $4::timestamptz)`,
		account, secret, overlap, now, now.Add(overlap)).Scan(&until)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", time.Time{}, ErrNoAccount
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("rotating the secret for callbacks: %w", err)
	}
	return secret, until, nil
}
