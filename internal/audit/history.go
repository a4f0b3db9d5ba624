package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// An Entry is one thing that is recorded of a key.
type Entry struct {
	At time.Time `json:"at"`
	// Kind says what it is about: key, audit, ride, job, callback or event.
	Kind string `json:"kind"`
	// Key is the idempotency key that it belongs to: the one that was asked
	// for, or another one of the same ride, such as that of its cancel.
	Key string `json:"key,omitempty"`
	// What says what happened, as words. It holds no secret: of a URL it has
	// the host, and no body of a callback.
	What string `json:"what"`
}

// ErrNoHistory means that nothing is recorded of a key.
var ErrNoHistory = errors.New("nothing is recorded of this key")

// HistoryAccounts returns the accounts that have a key or, if the key's row is
// gone, its ride.
func HistoryAccounts(ctx context.Context, pool *pgxpool.Pool, key string) (accounts []string, err error) {
	err = readWhole(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT account_id FROM idempotency_keys WHERE key = $1
			UNION
			SELECT account_id FROM rides WHERE key = $1 OR cancel_key = $1
			ORDER BY 1
			LIMIT 100`, key)
		if err != nil {
			return err
		}
		accounts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the key's account: %w", err)
	}
	return accounts, nil
}

// History returns everything that is recorded of a key of an account and of its
// ride, in the order of time. What is at present comes last. It reads one
// snapshot.
func History(ctx context.Context, pool *pgxpool.Pool, account, key string) ([]Entry, error) {
	var entries []Entry
	err := readWhole(ctx, pool, func(tx pgx.Tx) error {
		about, err := readSubject(ctx, tx, account, key)
		if err != nil {
			return err
		}
		var ends []Entry
		if entries, ends, err = keyEntries(ctx, tx, about); err != nil {
			return err
		}
		// A query of its own: on Citus the jobs are on another node than the
		// account.
		rows, err := tx.Query(ctx, `SELECT coalesce(args ->> 'id', '') FROM `+riverJobs, about)
		if err != nil {
			return err
		}
		if about["jobs"], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		for _, sql := range []string{rideHistory, auditHistory, jobHistory, attemptHistory, callbackHistory, eventHistory} {
			rows, err := tx.Query(ctx, sql, about)
			if err != nil {
				return err
			}
			more, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Entry])
			if err != nil {
				return err
			}
			entries = append(entries, more...)
		}
		entries = append(entries, ends...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of a key: %w", err)
	}
	if len(entries) == 0 {
		return nil, ErrNoHistory
	}
	for i := range entries {
		entries[i].What = bounded(entries[i].What)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.At.Compare(b.At) })
	return entries, nil
}

// readSubject returns the arguments of the queries: the account, the ride of a
// key, all keys of that ride, and what it has at Stripe.
func readSubject(ctx context.Context, tx pgx.Tx, account, key string) (pgx.NamedArgs, error) {
	about := pgx.NamedArgs{"account": account, "ride": "", "keys": []string{key}, "objects": []string{}}
	var ride, own, cancel, intent, charge, refund string
	// The key of a cancel that was refused is not on the ride.
	err := tx.QueryRow(ctx, `
		SELECT r.id, r.key, coalesce(r.cancel_key, ''), coalesce(r.payment_intent_id, ''), coalesce(r.charge_id, ''), coalesce(r.refund_id, '')
		FROM rides r
		WHERE r.account_id = $1 AND (r.key = $2 OR r.cancel_key = $2 OR 'refund_late→' || r.payment_intent_id = $2
		   OR r.id = (SELECT split_part(k.path, '/', 4) FROM idempotency_keys k WHERE k.account_id = $1 AND k.key = $2))
		LIMIT 1`,
		account, key).Scan(&ride, &own, &cancel, &intent, &charge, &refund)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return about, nil
	case err != nil:
		return nil, err
	}
	about["ride"] = ride
	keys := []string{key, own, cancel, "refund_late→" + intent, "refund_failed→" + refund}
	slices.Sort(keys)
	about["keys"] = slices.Compact(keys) // a key that was there twice would have each of its jobs twice
	about["objects"] = slices.DeleteFunc([]string{intent, charge, refund}, func(id string) bool { return id == "" })
	return about, nil
}

// keyEntries returns what the rows of the keys say, about their beginnings and
// about their ends. Of what has the same time, an end comes last.
func keyEntries(ctx context.Context, tx pgx.Tx, about pgx.NamedArgs) (begins, ends []Entry, err error) {
	rows, err := tx.Query(ctx, `
		SELECT key, method, path, request_id, flow, realm, params, recovery_point, coalesce(foreign_key, ''), first_sent_at,
		       leased_until, attempts, run_after, coalesce(last_error, ''), coalesce(parked_reason, ''),
		       coalesce(response_status, 0), response_body, created_at, finished_at, reaped_at, now()
		FROM idempotency_keys
		WHERE account_id = @account AND key = ANY(@keys)`, about)
	if err != nil {
		return nil, nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keyStory])
	for _, story := range found {
		begins, ends = append(begins, story.begin()...), append(ends, story.end()...)
	}
	return begins, ends, err
}

// A keyStory is a key's row.
type keyStory struct {
	Key, Method, Path, RequestID, Flow, Realm, Params, Point, Operation string
	FirstSentAt, LeasedUntil                                            *time.Time
	Attempts                                                            int
	RunAfter                                                            time.Time
	LastError, Parked                                                   string
	Status                                                              int
	Body                                                                []byte
	CreatedAt                                                           time.Time
	FinishedAt, ReapedAt                                                *time.Time
	Now                                                                 time.Time
}

// entry returns an entry about the key.
func (s keyStory) entry(at time.Time, format string, args ...any) Entry {
	return Entry{At: at, Kind: "key", Key: s.Key, What: fmt.Sprintf(format, args...)}
}

// begin returns what the row says of the key's beginning.
func (s keyStory) begin() []Entry {
	begun := s.entry(s.CreatedAt, "%s %s began the flow %s in %s: request %s%s", s.Method, s.Path, s.Flow, s.Realm, s.RequestID, asked(s.Params))
	if s.FirstSentAt == nil {
		return []Entry{begun}
	}
	return []Entry{begun, s.entry(*s.FirstSentAt, "its call to Stripe was frozen, and may have been sent from here on: operation %.12s…", s.Operation)}
}

// end returns what the row says of the key's end, or how the key stands.
func (s keyStory) end() []Entry {
	switch {
	case s.FinishedAt == nil:
		return []Entry{s.entry(s.Now, "now: %s", s.state())}
	case s.ReapedAt == nil:
		return []Entry{s.entry(*s.FinishedAt, "answered with %d%s at attempt %d", s.Status, codeOf(s.Body), s.Attempts)}
	default:
		return []Entry{
			s.entry(*s.FinishedAt, "answered"),
			s.entry(*s.ReapedAt, "reaped: its parameters and its answer are gone, and a retry is refused"),
		}
	}
}

// state says how an unfinished key stands.
func (s keyStory) state() string {
	how := "due at " + s.RunAfter.UTC().Format(time.RFC3339)
	switch {
	case s.Parked != "":
		how = "parked for " + s.Parked
	case s.LeasedUntil != nil && s.LeasedUntil.After(s.Now):
		how = "held by a worker until " + s.LeasedUntil.UTC().Format(time.RFC3339)
	}
	text := fmt.Sprintf("at %s after attempt %d, %s", s.Point, s.Attempts, how)
	if s.LastError != "" {
		text += "; last error: " + s.LastError
	}
	return text
}

// asked returns the parameters for people. A URL may hold a secret behind its
// host.
func asked(params string) string {
	var members map[string]any
	if json.Unmarshal([]byte(params), &members) != nil || len(members) == 0 {
		return ""
	}
	if text, ok := members["callback_url"].(string); ok {
		members["callback_url"] = "?"
		if target, err := url.Parse(text); err == nil {
			members["callback_url"] = target.Scheme + "://" + target.Host + "/…"
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return ""
	}
	return ", asking for " + string(text)
}

// codeOf returns the code of a problem, after a blank, or "".
func codeOf(body []byte) string {
	var problem struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		return ""
	}
	return " " + problem.Code
}

// bounded returns a text on one line, of at most 300 characters.
func bounded(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}
