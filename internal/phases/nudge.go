package phases

import (
	"context"
	"fmt"
)

// What the other side tells of its own accord is a hint that something is new.
// Nudge and Unpark act on it. Neither raises the epoch of a key that somebody
// holds, or may still be calling for, so a hint fences no live worker.

// Nudge makes an unfinished key due that nobody holds, so that the completer
// looks at it now and not later. seen is the key as it was read; a key that has
// changed since is left alone, because somebody has looked at it.
func (k Keys) Nudge(ctx context.Context, seen Record) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	_, err := k.Pool.Exec(ctx, `
		UPDATE idempotency_keys
		SET run_after = now()
		WHERE account_id = $1 AND key = $2 AND lease_epoch = $3 AND lease_token IS NULL
		  AND finished_at IS NULL AND parked_reason IS NULL AND run_after > now()`,
		seen.Account, seen.Key, seen.LeaseEpoch)
	if err != nil {
		return fmt.Errorf("nudging key: %w", unavailable(err))
	}
	return nil
}

// Unpark lets a key go on whose reason for being parked has passed. From now on
// its call is looked up and never sent. If the look-up finds nothing, the key
// is parked again for the same reason. by names what has shown that the look-up
// will find something, for the audit record. It returns ErrChanged if the key
// has changed since it was read, or if its last worker may still be calling.
func (k Keys) Unpark(ctx context.Context, seen Record, by string) error {
	if seen.ParkedReason == "" {
		return ErrNotParked
	}
	return k.change(ctx, seen, "key.unparked", map[string]string{"by": by, "was": seen.ParkedReason}, `
		UPDATE idempotency_keys
		SET parked_reason = NULL, run_after = now(), lease_token = NULL, lease_epoch = lease_epoch + 1,
		    find_reason = coalesce(find_reason, parked_reason), find_until = coalesce(find_until, first_sent_at)
		WHERE account_id = $1 AND key = $2 AND lease_epoch = $3 AND finished_at IS NULL AND parked_reason IS NOT NULL
		  AND foreign_form IS NOT NULL AND `+nobodyCalls)
}

// WindowOver reports whether the form of a key's call will never be sent again.
func (e *Engine) WindowOver(ctx context.Context, seen Record) (bool, error) {
	if seen.FirstSentAt == nil {
		return false, nil
	}
	now, err := e.databaseTime(ctx)
	return err == nil && now.Sub(*seen.FirstSentAt) >= e.config.Window, err
}
