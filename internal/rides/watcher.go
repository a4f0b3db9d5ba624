package rides

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	// pollEvery is the least time from one poll to the next.
	pollEvery = 500 * time.Millisecond
	// pollTimeout bounds one poll.
	pollTimeout = 5 * time.Second
)

// A watcher tells waiting clients that what they wait for has changed. However
// many they are, it asks the database in one statement for all of them, at most
// twice a second, and holds no connection in between. It asks nothing while
// nobody waits.
type watcher struct {
	pool    *pgxpool.Pool
	live    bool
	log     *slog.Logger
	metrics *waitMetrics
	// most is how many clients may wait at once.
	most int

	mu      sync.Mutex
	waiting int // clients
	watches map[*watch]bool
	polling bool
	closed  bool
	// drained is closed when the process drains: every wait ends.
	drained chan struct{}
}

// A watch is what a client waits for next.
type watch struct {
	Account string `json:"account_id"`
	// Ride is the id of a ride, and Seen is its state as the client knows it.
	// The client waits until the ride is in another one.
	Ride string `json:"ride,omitempty"`
	Seen string `json:"seen,omitempty"`
	// Key is an idempotency key. The client waits until it is finished or
	// parked, or unless AtEnd, until nobody holds it.
	Key   string `json:"key,omitempty"`
	AtEnd bool   `json:"at_end"`
	// N is the watch's place in a poll.
	N int `json:"n"`

	// news gets one sighting, which is nil for a key. It has room for it, so
	// that a poll waits for no client.
	news chan *sighting
}

// A sighting is a ride as a waiting client sees it.
type sighting struct {
	ride Ride
	// state differs if a client that waits for the ride must be told.
	state string
	// atRest means that the ride will not change by itself.
	atRest bool
}

// rideState is the state of a ride: whatever a client that waits is to be told
// of.
const rideState = rideStatus + ` || ' ' || coalesce(r.refund_status, '')`

// sightingColumns are what scanSighting reads, from rideTables.
const sightingColumns = rideState + `,
	k.parked_reason IS NOT NULL OR r.status <> 'pending' AND r.refund_status IS DISTINCT FROM 'pending', ` + rideColumns

// scanSighting reads sightingColumns, and what stands before them into before.
func scanSighting(row scanner, live bool, before ...any) (found sighting, err error) {
	found.ride, err = scanRide(longerRow{row, append(before, &found.state, &found.atRest)}, live)
	return found, err
}

// A longerRow is a row that begins with other columns.
type longerRow struct {
	scanner
	before []any
}

func (r longerRow) Scan(dest ...any) error { return r.scanner.Scan(append(r.before, dest...)...) }

func newWatcher(config Config) *watcher {
	return &watcher{
		pool: config.Pool, live: config.Stripe.Live(), log: config.Logger, metrics: newWaitMetrics(config.Metrics),
		most: config.MaxWaiting, watches: map[*watch]bool{}, drained: make(chan struct{}),
	}
}

// enter counts a client in, who then leaves. It returns false if as many wait
// as may, or if the process drains: the client is answered as if it had not
// preferred to wait.
func (w *watcher) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.waiting >= w.most {
		w.metrics.refused.Inc()
		return false
	}
	w.waiting++
	w.metrics.waiting.Inc()
	return true
}

func (w *watcher) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
	w.metrics.waiting.Dec()
}

// drain ends every wait.
func (w *watcher) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.drained)
	}
}

// watch returns the channel on which the news comes, once. A caller that stops
// waiting before calls forget.
func (w *watcher) watch(what watch) (news <-chan *sighting, forget func()) {
	what.news = make(chan *sighting, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches[&what] = true
	if !w.polling {
		w.polling = true
		go w.run(context.Background()) //nolint:forbidigo // it serves all who wait, and ends with the last of them
	}
	return what.news, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watches, &what)
	}
}

// run polls until nobody waits any more.
func (w *watcher) run(ctx context.Context) {
	failing, start := false, time.Now()
	for {
		_ = pause.For(ctx, max(pollEvery-time.Since(start), pollEvery/5)) // ctx doesn't end
		start = time.Now()
		watches := w.list()
		if len(watches) == 0 {
			return
		}
		err := w.poll(ctx, watches)
		w.metrics.polls.Observe(time.Since(start).Seconds())
		if err != nil && !failing {
			w.log.WarnContext(ctx, "reading for waiting clients failed: trying again", slog.Any("error", err))
		}
		failing = err != nil
	}
}

// list returns what is watched. If that is nothing, the polling ends.
func (w *watcher) list() []*watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polling = len(w.watches) > 0
	watches := make([]*watch, 0, len(w.watches))
	for what := range w.watches {
		what.N = len(watches)
		watches = append(watches, what)
	}
	return watches
}

// poll asks the database once for all watches, and tells the clients what has
// changed. The database returns nothing else.
//
// The watches travel as one JSON document. Postgres takes a document for a
// hundred rows, however long it is, and so always looks each of them up in an
// index. It knows the length of an array: for some thousand it would read the
// whole table, again and again. The statement is planned anew each time: a plan
// that was made while the tables were small would read all of them for each
// watch when they have grown. The second SELECT needs columns of a ride and
// no ride: no ride has an empty id.
func (w *watcher) poll(ctx context.Context, watches []*watch) error {
	asked, err := json.Marshal(watches)
	if err != nil {
		return fmt.Errorf("encoding what is watched: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return phases.Rerun(ctx, func(ctx context.Context) error {
		rows, err := w.pool.Query(ctx, `
			SELECT w.n, `+sightingColumns+`
			FROM json_to_recordset($1::json) AS w (n int, account_id text, ride text, seen text)
			JOIN rides r ON r.account_id = w.account_id AND r.id = w.ride
			LEFT JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.key
			WHERE `+rideState+` <> w.seen
			UNION ALL
			SELECT w.n, NULL, NULL, `+rideColumns+`
			FROM json_to_recordset($1::json) AS w (n int, account_id text, key text, at_end boolean)
			JOIN idempotency_keys k ON k.account_id = w.account_id AND k.key = w.key
			LEFT JOIN rides r ON r.account_id = k.account_id AND r.id = ''
			WHERE k.finished_at IS NOT NULL OR k.parked_reason IS NOT NULL
			   OR NOT w.at_end AND (k.leased_until IS NULL OR k.leased_until <= now())`,
			pgx.QueryExecModeExec, string(asked))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			n, news, err := w.scan(rows)
			if err != nil {
				return err
			}
			w.tell(watches[n], news)
		}
		return rows.Err()
	})
}

// scan reads a row of a poll. That of a key has nothing but its number.
func (w *watcher) scan(rows pgx.Rows) (n int, news *sighting, err error) {
	if rows.RawValues()[1] == nil {
		dest := make([]any, len(rows.RawValues()))
		dest[0] = &n
		return n, nil, rows.Scan(dest...)
	}
	found, err := scanSighting(rows, w.live, &n)
	return n, &found, err
}

// tell tells a client that still waits.
func (w *watcher) tell(what *watch, news *sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches[what] {
		delete(w.watches, what)
		what.news <- news
	}
}
