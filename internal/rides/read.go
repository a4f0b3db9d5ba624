package rides

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// getRide answers GET /v1/rides/{id}. A ride of another account is not found.
func (s *Service) getRide(w http.ResponseWriter, r *web.Request, who accounts.Principal) error {
	seen, err := s.sight(r.Context(), who.AccountID, r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept, Prefer")
	if web.AcceptsEvents(r.Header) {
		if wait, ok := s.beginWait(r, s.pulse); ok {
			defer wait.end()
			return s.streamRide(w, r, wait, who.AccountID, seen)
		}
	}
	if wait, ok := s.beginWait(r, web.ReadPreferences(r.Header).Wait); ok {
		defer wait.end()
		if seen, err = wait.atRest(who.AccountID, seen); err != nil {
			return err
		}
		web.SetApplied(w, web.Preferences{Wait: wait.granted})
	}
	return web.AnswerJSON(w, r, http.StatusOK, seen.ride)
}

// sight reads a ride. The error of one that the account doesn't have is its
// refusal.
func (s *Service) sight(ctx context.Context, account, id string) (sighting, error) {
	if !isText(id) {
		return sighting{}, web.NewProblemError(web.CodeNotFound, nil)
	}
	var found sighting
	err := s.rerun(ctx, func(ctx context.Context) (err error) {
		found, err = scanSighting(s.pool.QueryRow(ctx, `
			SELECT `+sightingColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1 AND r.id = $2`,
			account, id), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return sighting{}, web.NewProblemError(web.CodeNotFound, nil)
	}
	if err != nil {
		return sighting{}, fmt.Errorf("reading ride: %w", err)
	}
	return found, nil
}

// pendingRide returns the ride of a key that is not finished. Between two
// phases the key may exist without its ride: then it returns the ride to be.
func (s *Service) pendingRide(ctx context.Context, key phases.Key) (Ride, error) {
	var ride Ride
	err := s.rerun(ctx, func(ctx context.Context) (err error) {
		ride, err = scanRide(s.pool.QueryRow(ctx, rideByID, key.Account, rideID(key.Account, key.Key)), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return newRide(key, s.live)
	}
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	// The key may have reached its end in the meantime; the ride is shown as
	// the key was.
	ride.Status, ride.Charge, ride.Refund, ride.Disputed, ride.Failure = StatusPending, nil, nil, false, nil
	return ride, nil
}

// rideList is one page of rides.
type rideList struct {
	Object  string `json:"object"`
	Data    []Ride `json:"data"`
	HasMore bool   `json:"has_more"`
}

// rideQuery is what GET /v1/rides was asked for.
type rideQuery struct {
	limit     int
	after     string    // id of the ride before the page; "" starts with the newest
	afterTime time.Time // created_at of that ride
	key       string    // of the one ride to list; "" lists all
}

// statement returns the statement that reads a page of an account's rides. What
// isn't asked for isn't in it: a condition that holds or is off, as $2 says,
// can't be the bound of an index. A ride's id is that of its key. The collation
// is that of rides_newest_idx, see there.
func (q rideQuery) statement(account string) (sql string, args []any) {
	where, args := `r.account_id = $1 AND r.account_id COLLATE "C" = $1`, []any{account, q.limit + 1}
	if q.key != "" {
		where, args = `r.account_id = $1 AND r.id = $3`, append(args, rideID(account, q.key))
	}
	if q.after != "" {
		args = append(args, q.after, q.afterTime)
		where += fmt.Sprintf(` AND (r.created_at, r.id COLLATE "C") < ($%d, $%d)`, len(args), len(args)-1)
	}
	return `
		SELECT ` + rideColumns + `
		FROM ` + rideTables + `
		WHERE ` + where + `
		ORDER BY r.created_at DESC, r.id COLLATE "C" DESC
		LIMIT $2`, args
}

// listRides answers GET /v1/rides: newest first by (created_at, id).
func (s *Service) listRides(w http.ResponseWriter, r *web.Request, who accounts.Principal) error {
	query := newRideQuery(r.URL.Query())
	if query.after != "" {
		if err := s.findStart(r.Context(), who.AccountID, &query); err != nil {
			return err
		}
	}
	found, err := s.rides(r.Context(), who.AccountID, query)
	if err != nil {
		return err
	}
	more := len(found) > query.limit
	return web.AnswerJSON(w, r, http.StatusOK, rideList{Object: "list", Data: found[:min(len(found), query.limit)], HasMore: more})
}

// rides reads one ride more than the page has, to see whether there are more.
func (s *Service) rides(ctx context.Context, account string, query rideQuery) ([]Ride, error) {
	sql, args := query.statement(account)
	var found []Ride
	err := s.rerun(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, collectRide(s.live))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing rides: %w", err)
	}
	return found, nil
}

// findStart reads when the ride before the page was created. It refuses an id
// that is not one of the account's rides.
func (s *Service) findStart(ctx context.Context, account string, query *rideQuery) error {
	err := s.rerun(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `
			SELECT created_at
			FROM rides
			WHERE account_id = $1 AND id = $2`,
			account, query.after).Scan(&query.afterTime)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return web.InvalidParameters([]web.ParamFault{
			{Pointer: "/starting_after", Detail: "Must be the id of a ride of this account."},
		})
	}
	if err != nil {
		return fmt.Errorf("reading the ride before the page: %w", err)
	}
	return nil
}

// listParams are the query parameters of GET /v1/rides.
func listParams() []web.QueryParam {
	return []web.QueryParam{
		{Name: "limit", Check: func(value string) string {
			if limit, err := strconv.Atoi(value); err != nil || limit < 1 || limit > maxLimit {
				return fmt.Sprintf("Must be a whole number from 1 to %d.", maxLimit)
			}
			return ""
		}},
		{Name: "starting_after", Check: textFault},
		{Name: "idempotency_key", Check: func(value string) string { return textFault(keyOf(value)) }},
	}
}

// newRideQuery returns what a request asks for whose query parameters were
// checked.
func newRideQuery(given url.Values) rideQuery {
	query := rideQuery{limit: defaultLimit, after: given.Get("starting_after"), key: keyOf(given.Get("idempotency_key"))}
	if limit, err := strconv.Atoi(given.Get("limit")); err == nil {
		query.limit = limit
	}
	return query
}

// keyOf returns the key that a query parameter means. As in the header, it may
// have quotation marks around it.
func keyOf(value string) string {
	if strings.HasPrefix(value, `"`) {
		if key, err := web.ParseKeyValue(value); err == nil {
			return key
		}
	}
	return value
}

func textFault(value string) string {
	if !isText(value) {
		return fmt.Sprintf("Must be 1 to %d printable ASCII characters.", web.MaxKeyLength)
	}
	return ""
}

// isText reports whether a value can be an id or a key. Postgres accepts
// neither NUL nor invalid UTF-8.
func isText(value string) bool {
	outside := func(char rune) bool { return char < ' ' || char > '~' }
	return value != "" && len(value) <= web.MaxKeyLength && !strings.ContainsFunc(value, outside)
}
