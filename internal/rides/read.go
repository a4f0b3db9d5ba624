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

	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// getRide answers GET /v1/rides/{id}. Another account's ride is as absent as
// one that never was.
func (s *Service) getRide(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	if !isText(id) {
		return web.NewProblemError(web.CodeNotFound, nil)
	}
	var ride Ride
	err := s.read(r.Context(), func(ctx context.Context) (err error) {
		ride, err = scanRide(s.pool.QueryRow(ctx, `
			SELECT `+rideColumns+`
			FROM `+rideTables+`
			WHERE r.account_id = $1 AND r.id = $2`,
			principalOf(ctx).account, id), s.live)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return web.NewProblemError(web.CodeNotFound, nil)
	}
	if err != nil {
		return fmt.Errorf("reading ride: %w", err)
	}
	return ok(w, r, ride)
}

// rideList is one page of rides.
type rideList struct {
	Object  string `json:"object"`
	Data    []Ride `json:"data"`
	HasMore bool   `json:"has_more"`
}

// rideQuery is what GET /v1/rides was asked for.
type rideQuery struct {
	limit  int
	after  string // id of the ride before the page; empty: from the newest
	key    string // only this key's ride; empty: all
	cursor time.Time
}

// listRides answers GET /v1/rides: newest first by (created_at, id).
func (s *Service) listRides(w http.ResponseWriter, r *http.Request) error {
	query, faults := parseRideQuery(r.URL.RawQuery)
	if len(faults) == 0 && query.after != "" {
		known, err := s.findCursor(r.Context(), &query)
		if err != nil {
			return err
		}
		if !known {
			faults = append(faults, web.ParamFault{Pointer: "/starting_after", Detail: "Must be the id of a ride of this account."})
		}
	}
	if len(faults) > 0 {
		refused := web.NewProblemError(web.CodeInvalidParameters, nil)
		refused.Problem.Errors = faults
		return refused
	}
	found, err := s.rides(r.Context(), query)
	if err != nil {
		return err
	}
	more := len(found) > query.limit
	return ok(w, r, rideList{Object: "list", Data: found[:min(len(found), query.limit)], HasMore: more})
}

// rides reads one ride more than the page has, which tells whether there are
// more.
func (s *Service) rides(ctx context.Context, query rideQuery) ([]Ride, error) {
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
			principalOf(ctx).account, query.key, query.after, query.cursor, query.limit+1)
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

// findCursor finds the place of query.after in the list; false when the account
// has no such ride.
func (s *Service) findCursor(ctx context.Context, query *rideQuery) (bool, error) {
	err := s.read(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `
			SELECT created_at
			FROM rides
			WHERE account_id = $1 AND id = $2`,
			principalOf(ctx).account, query.after).Scan(&query.cursor)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading cursor: %w", err)
	}
	return true, nil
}

// parseRideQuery reads the query of GET /v1/rides. An unknown parameter is a
// fault: a misspelt filter that is silently ignored returns the wrong rides.
func parseRideQuery(raw string) (rideQuery, []web.ParamFault) {
	query := rideQuery{limit: defaultLimit}
	malformed := []web.ParamFault{{Pointer: "", Detail: "The query string is malformed."}}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return query, malformed
	}
	var faults []web.ParamFault
	for name, given := range values {
		if !utf8.ValidString(name) { // A pointer cannot tell one such name from another.
			return query, malformed
		}
		if fault := query.set(name, given); fault != "" {
			faults = append(faults, web.ParamFault{Pointer: string(jsontext.Pointer("").AppendToken(name)), Detail: fault})
		}
	}
	slices.SortFunc(faults, func(a, b web.ParamFault) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return query, faults
}

// set takes one parameter and returns what is wrong with it, as a sentence, or
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

// isText tells whether a value can be an id or a key at all; Postgres takes no
// NUL and no broken UTF-8.
func isText(value string) bool { return web.IsPrintable(value, web.MaxKeyLength) }

func ok(w http.ResponseWriter, r *http.Request, value any) error {
	body, err := web.EncodeJSON(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	write(w, r, http.StatusOK, body)
	return nil
}
