package rides

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
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
	id := r.PathValue("id")
	if !isText(id) {
		return web.NewProblemError(web.CodeNotFound, nil)
	}
	var ride Ride
	err := s.read(r.Context(), func(ctx context.Context) (err error) {
		ride, err = scanRide(s.pool.QueryRow(ctx, `
			SELECT `+rideColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1 AND r.id = $2`,
			who.AccountID, id), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return web.NewProblemError(web.CodeNotFound, nil)
	}
	if err != nil {
		return fmt.Errorf("reading ride: %w", err)
	}
	return web.AnswerJSON(w, r, http.StatusOK, ride)
}

// pendingRide returns the ride of a key that is not finished. Between two
// phases the key may exist without its ride: then it returns the ride to be.
func (s *Service) pendingRide(ctx context.Context, key phases.Key) (Ride, error) {
	var ride Ride
	err := s.read(ctx, func(ctx context.Context) (err error) {
		ride, err = scanRide(s.pool.QueryRow(ctx, `
			SELECT `+rideColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1 AND r.key = $2`,
			key.Account, key.Key), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return newRide(key, s.live)
	}
	if err != nil {
		return Ride{}, fmt.Errorf("reading ride: %w", err)
	}
	ride.Status, ride.Charge = StatusPending, nil
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

// listRides answers GET /v1/rides: newest first by (created_at, id).
func (s *Service) listRides(w http.ResponseWriter, r *web.Request, who accounts.Principal) error {
	query, faults := parseRideQuery(r.URL.RawQuery)
	if len(faults) > 0 {
		return web.InvalidParameters(faults)
	}
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
	var found []Ride
	err := s.read(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `
			SELECT `+rideColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1
			  AND ($2 = '' OR r.key = $2)
			  AND ($3 = '' OR (r.created_at, r.id) < ($4, $3))
			ORDER BY r.created_at DESC, r.id DESC
			LIMIT $5`,
			account, query.key, query.after, query.afterTime, query.limit+1)
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
	err := s.read(ctx, func(ctx context.Context) error {
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

// parseRideQuery reads the query of GET /v1/rides and returns all faults,
// sorted by pointer. An unknown parameter is a fault: if a misspelt filter were
// ignored, the answer would have the wrong rides.
func parseRideQuery(raw string) (rideQuery, []web.ParamFault) {
	query := rideQuery{limit: defaultLimit}
	malformed := []web.ParamFault{{Pointer: "", Detail: "The query string is malformed."}}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return query, malformed
	}
	var faults []web.ParamFault
	for name, given := range values {
		if !utf8.ValidString(name) { // A pointer cannot name it.
			return query, malformed
		}
		if fault := query.set(name, given); fault != "" {
			faults = append(faults, web.ParamFault{Pointer: string(jsontext.Pointer("").AppendToken(name)), Detail: fault})
		}
	}
	slices.SortFunc(faults, func(a, b web.ParamFault) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return query, faults
}

// set takes one parameter. It returns what is wrong with it as a sentence, or
// "".
func (q *rideQuery) set(name string, given []string) string {
	value := given[0]
	switch {
	case len(given) > 1:
		return "Must be given once."
	case name == "limit":
		limit, err := strconv.Atoi(value)
		if err != nil || limit < 1 || limit > maxLimit {
			return "Must be a whole number from 1 to 100."
		}
		q.limit = limit
	case name == "starting_after" && isText(value):
		q.after = value
	case name == "idempotency_key" && isText(value):
		q.key = value
	case name == "starting_after" || name == "idempotency_key":
		return "Must be 1 to 255 printable ASCII characters."
	default:
		return "Is not a parameter of this list; limit, starting_after and idempotency_key are."
	}
	return ""
}

// isText reports whether a value can be an id or a key. Postgres accepts
// neither NUL nor invalid UTF-8.
func isText(value string) bool { return web.IsPrintable(value, web.MaxKeyLength) }
