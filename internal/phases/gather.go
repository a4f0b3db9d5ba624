package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// Limits of gathering. No safety rests on them.
const (
	// maxTrips is how many groups are on their way at most: while one waits for
	// the disk, the other one has the processor. So it is for groups of look-ups.
	maxTrips = 2
	// company is how many transactions, or look-ups, go beside a group that is on
	// its way. Fewer wait for its end: what they save by sharing is worth more.
	company = 8
	// maxGathered is the most transactions that share one COMMIT.
	maxGathered = 32
	// defaultPatience is how long others wait for a group that is on its way,
	// which may be waiting for a lock.
	defaultPatience = 100 * time.Millisecond
	// gatherTimeout bounds one shared COMMIT, so that a member has time left to
	// settle its doubt, and to release its key. It bounds shared look-ups too, so
	// that each can be made again by itself.
	gatherTimeout = 4 * time.Second
	// sqlShortLocks bounds how long a transaction that several share waits for a
	// lock, because all of them wait then.
	sqlShortLocks = "SET LOCAL lock_timeout = '100ms'"
)

// errShared is what the members of a group are told of a failure that isn't the
// server's. The text of such a failure may hold what another member sent.
var errShared = errors.New("a COMMIT that several transactions shared has failed")

// A gathering lets transactions share a COMMIT. What costs most about a small
// transaction is its end: while some are on their way, those that become ready
// wait, and go together: in the next one, or as soon as they are enough. Alone,
// a transaction goes at once.
//
// Each keeps its guard. The guards come first, in the order of account and key,
// so that they can't deadlock; any other deadlock ends with the lock time-out.
// If a statement fails, the server rolls all of them back, and each runs again
// by itself. If the fate of their COMMIT is unknown, each settles its own
// doubt. A transaction is gathered only once: nobody pays twice for a
// stranger's fault.
type gathering struct {
	engine   *Engine
	patience time.Duration

	mu sync.Mutex
	// queues has one queue, named "", or one for each account if
	// Config.OneAccount is set. A queue without trips is dropped.
	queues map[string]*queue
}

// A queue counts the groups on their way, also those of one, but not those that
// are late. It holds the transactions that wait for them.
type queue struct {
	trips   int
	waiting []*member
}

// A member is a transaction that may share its COMMIT.
type member struct {
	tx *Tx
	// queue is the name of the queue that it waits in.
	queue string
	// turn is closed when the member, which waits, has its next turn.
	turn chan struct{}
	next turn
}

// give tells a member what it does next.
func (m *member) give(next turn) {
	m.next = next
	close(m.turn)
}

// A turn is what a member does next: it leads a group, or sends its own
// transaction alone, or it is done, because its leader has sent it.
type turn struct {
	lead  []*member
	alone bool
}

// commit sends a transaction of which everything is queued but COMMIT.
func (g *gathering) commit(tx *Tx) error {
	began := time.Now()
	m := &member{tx: tx, turn: make(chan struct{})}
	if g.engine.config.OneAccount {
		m.queue = tx.attempt.key.Account
	}
	next, err := g.join(m)
	if err != nil {
		tx.failure = &failure{err: err, broken: true}
		return err
	}
	if next.lead != nil {
		// Those that wait go without a group that is late.
		late := time.AfterFunc(g.patience, func() { g.arrive(m) })
		defer func() {
			if late.Stop() {
				g.arrive(m)
			}
		}()
		next = g.travel(next.lead)
	}
	trace.LineOf(tx.ctx).AddDatabase(time.Since(began))
	if next.alone {
		return tx.send(statement{sql: sqlCommit})
	}
	if tx.failure != nil {
		return tx.failure.err
	}
	return nil
}

// queue returns the queue of a member. The caller has locked g.
func (g *gathering) queue(m *member) *queue {
	q := g.queues[m.queue]
	if q == nil {
		q = &queue{}
		g.queues[m.queue] = q
	}
	return q
}

// join returns the member's turn, as soon as it has one.
func (g *gathering) join(m *member) (turn, error) {
	g.mu.Lock()
	q := g.queue(m)
	q.add(m)
	q.depart()
	g.mu.Unlock()

	select {
	case <-m.turn:
		return m.next, nil
	case <-m.tx.ctx.Done():
	}
	if g.leave(m) {
		return turn{}, fmt.Errorf("%w: waiting for other transactions: %w: %w", ErrUnavailable, errUnsent, context.Cause(m.tx.ctx))
	}
	<-m.turn // a group has taken it
	return m.next, nil
}

// depart lets those who wait go, if they need wait no longer.
func (q *queue) depart() {
	if !departs(len(q.waiting), q.trips) {
		return
	}
	q.trips++
	group := q.take()
	group[0].give(turn{lead: group})
}

// departs reports whether those who wait, for a COMMIT or for a look-up, go now,
// beside so many groups: nobody is on the way, or they are enough for a group of
// their own.
func departs(waiting, trips int) bool {
	return waiting > 0 && trips < maxTrips && (trips == 0 || waiting >= company)
}

// add lets a member wait. Those who hold their key come before those who would
// insert one: what has begun must end, however much is still to begin.
func (q *queue) add(m *member) {
	at := len(q.waiting)
	if !m.isNew() {
		if first := slices.IndexFunc(q.waiting, (*member).isNew); first >= 0 {
			at = first
		}
	}
	q.waiting = slices.Insert(q.waiting, at, m)
}

func (m *member) isNew() bool { return m.tx.attempt.entry == entryInsert }

// leave reports whether a member still waits, and lets it wait no longer.
func (g *gathering) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[m.queue]
	if q == nil {
		return false
	}
	i := slices.Index(q.waiting, m)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// arrive ends the trip that m has led, and lets those go that wait.
func (g *gathering) arrive(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queue(m)
	q.trips--
	if q.depart(); q.trips == 0 {
		delete(g.queues, m.queue)
	}
}

// take takes a group from those that wait. No two of them have one key.
func (q *queue) take() []*member {
	var group []*member
	ids := map[keyID]bool{}
	left := q.waiting[:0]
	for _, m := range q.waiting {
		id := m.tx.attempt.id()
		if len(group) == maxGathered || ids[id] {
			left = append(left, m)
			continue
		}
		ids[id] = true
		group = append(group, m)
	}
	clear(q.waiting[len(left):])
	q.waiting = left
	return group
}

// travel sends the transactions of a group, tells its other members what comes
// next for them, and returns that for the first, who called it.
func (g *gathering) travel(group []*member) turn {
	if len(group) == 1 {
		return turn{alone: true}
	}
	next := g.sendTogether(group)
	for _, m := range group[1:] {
		m.give(next)
	}
	return next
}

// sendTogether sends the transactions of a group as one. If the server has
// rolled them back, each goes alone next. If not, they share what came of it:
// nothing was sent, or they have committed, or nobody knows.
func (g *gathering) sendTogether(group []*member) turn {
	// None of the group owns what they send: no context of theirs ends it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.engine.aborted), gatherTimeout)
	defer cancel()
	conn, err := g.engine.acquire(ctx)
	if err != nil {
		share(group, failure{err: err, broken: true})
		return turn{}
	}
	defer giveBack(ctx, conn)

	failed := g.engine.sendBatch(ctx, conn, together(group))
	switch {
	case failed != nil && failed.fate() != fateDoubtful:
		g.engine.metrics.parted.Inc()
		return turn{alone: true}
	case failed != nil:
		// last: no statement of a stranger's is to blame, so it stays a doubt.
		g.engine.log.LogAttrs(ctx, slog.LevelWarn, "a shared COMMIT failed",
			slog.Int("transactions", len(group)), slog.Any("error", failed.err))
		share(group, failure{err: sharedError(failed.err), committing: true, last: true})
		return turn{}
	}
	unconfirmed := g.engine.config.Unconfirmed(conn.Conn())
	for _, m := range group {
		m.tx.unconfirmed = unconfirmed
	}
	g.engine.metrics.gathered.Observe(float64(len(group)))
	return turn{}
}

// share makes a failure that of each member of a group.
func share(group []*member, f failure) {
	for _, m := range group {
		own := f
		m.tx.failure = &own
	}
}

// sharedError returns the error of a shared COMMIT as each member may know it.
// The server's own errors show nothing of what was sent.
func sharedError(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg
	}
	return errShared
}

// together returns the statements of a group's transactions as those of one.
func together(group []*member) []statement {
	sorted := slices.SortedFunc(slices.Values(group), func(m, n *member) int {
		a, b := m.tx.attempt.id(), n.tx.attempt.id()
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.key, b.key))
	})
	batch := []statement{{sql: sqlBegin}, {sql: sqlShortLocks}}
	for _, m := range sorted {
		batch = append(batch, m.tx.queue[1]) // the guard; BEGIN is before it
	}
	for _, m := range sorted {
		batch = append(batch, m.tx.queue[2:]...)
	}
	return append(batch, statement{sql: sqlCommit})
}
