package rides

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// earlierLife finds out whether the key $3 of the account $1 has done something
// under a row that is gone: it has hailed the ride $2, whose id follows from
// the key, or canceled the ride $4, which its request names ("" for none). Rides
// stay when rows are deleted.
const earlierLife = `
		SELECT 1
		FROM rides
		WHERE account_id = $1 AND id IN ($2, $4) AND (id = $2 OR cancel_key = $3 AND status = 'canceled')
		LIMIT 1`

// earlierLifeArgs are the arguments of earlierLife.
func earlierLifeArgs(account, key, ride string) []any {
	return []any{account, rideID(account, key), key, ride}
}

// hasLived reports whether a row says so; see earlierLife.
func hasLived(row scanner) (bool, error) {
	var one int
	err := row.Scan(&one)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("looking for an earlier life of the key: %w", err)
	}
	return err == nil, nil
}

// refuseNew returns the refusal of a request whose key has no row, and that a
// check refuses. A key that had an earlier life has expired, whatever is wrong
// with the request: it may have charged, so no refusal may say that it was not
// used. What passes the checks is refused by its flow then. ride is the one that
// the request names, or "".
func (s *Service) refuseNew(ctx context.Context, request *phases.Request, ride string, refusal error) error {
	var lived bool
	err := s.rerun(ctx, func(ctx context.Context) (err error) {
		lived, err = hasLived(s.pool.QueryRow(ctx, earlierLife, earlierLifeArgs(request.Account, request.Key, ride)...))
		return err
	})
	switch {
	case err != nil:
		return err
	case lived:
		return s.refuseLived(ctx, request)
	default:
		return refusal
	}
}

// refuseLived refuses a request whose key had no row, and has done something.
// Another request under it may have done that since the row was looked up: then
// the key has a row by now, by which a retry is answered.
func (s *Service) refuseLived(ctx context.Context, request *phases.Request) error {
	found, err := phases.Keys{Pool: s.pool}.Show(ctx, request.Account, request.Key)
	switch {
	case err != nil:
		return err
	case len(found) > 0:
		return fmt.Errorf("%w: the key got a row after it was looked up", phases.ErrUnavailable)
	default:
		return phases.ErrKeyExpired
	}
}
