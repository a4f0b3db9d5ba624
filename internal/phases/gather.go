package phases

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// Limits of gathering. No safety rests on them.
const (
	// maxTrips is how many transactions are on their way before others wait for
	// company.
	maxTrips = 4
	// maxGathered is how many transactions share one COMMIT.
	maxGathered = 32
	// defaultPatience is how long a transaction waits for those on their way,
	// which may be waiting for a lock.
	defaultPatience = 100 * time.Millisecond
	// sqlShortLocks bounds how long a transaction that several share waits for
	// a lock, because all of them wait then.
	sqlShortLocks = "SET LOCAL lock_timeout = '100ms'"
)

// A gathering lets transactions share a COMMIT. What costs most about a small
// transaction is its end: while some are on their way, those that become ready
// wait, and go together in the next one. Alone, a transaction goes at once.
//
// Each keeps its guard. The guards come first, in the order of account and key,
// so that two such transactions can't deadlock. If one of them fails, the
// server rolls all of them back, and each runs again by itself: nobody pays for
// a stranger's fault twice. If the fate of their COMMIT is unknown, each
// settles its own doubt.
type gathering struct {
	engine   *Engine
	patience time.Duration

	mu sync.Mutex
	// trips counts the transactions on their way.
	trips   int
	waiting []*member
}

// A member is a transaction that may share its COMMIT.
type member struct {
	tx *Tx
	// turn tells a member that waits what it does next.
	turn chan turn
}

// A turn is what a member does next: it sends the group's transactions, or its
// own alone, or nothing, because somebody else has sent it.
type turn struct {
	group []*member
	alone bool
}

// commit sends a transaction of which everything is queued but COMMIT.
func (g *gathering) commit(tx *Tx) error {
	began := time.Now()
	m := &member{tx: tx, turn: make(chan turn, 1)}
	next, err := g.enter(m)
	if err != nil {
		tx.failure = &failure{err: err, unsent: true}
		return err
	}
	if next.group != nil {
		defer g.arrive()
		next = g.travel(next.group)
	}
	if next.alone {
		return tx.send(statement{sql: sqlCommit})
	}
	trace.LineOf(tx.ctx).AddDatabase(time.Since(began))
	if tx.failure != nil {
		return tx.failure.err
	}
	return nil
}

// enter returns the member's turn, as soon as it has one.
func (g *gathering) enter(m *member) (turn, error) {
	g.mu.Lock()
	if g.trips < maxTrips {
		g.trips++
		g.mu.Unlock()
		return turn{group: []*member{m}}, nil
	}
	g.waiting = append(g.waiting, m)
	g.mu.Unlock()

	patience := time.NewTimer(g.patience)
	defer patience.Stop()
	select {
	case next := <-m.turn:
		return next, nil
	case <-patience.C:
	case <-m.tx.ctx.Done():
	}
	return g.hurry(m)
}

// hurry returns the turn of a member that waits no longer.
func (g *gathering) hurry(m *member) (turn, error) {
	g.mu.Lock()
	i := slices.Index(g.waiting, m)
	if i < 0 {
		g.mu.Unlock()
		return <-m.turn, nil // it has just begun
	}
	defer g.mu.Unlock()
	if err := context.Cause(m.tx.ctx); err != nil {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		return turn{}, fmt.Errorf("%w: waiting for other transactions: %w: %w", ErrUnavailable, errUnsent, err)
	}
	g.trips++
	return turn{group: g.take(i)}, nil
}

// arrive ends a trip, and lets those go that wait.
func (g *gathering) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 || g.trips > maxTrips {
		g.trips--
		return
	}
	group := g.take(0)
	group[0].turn <- turn{group: group}
}

// take takes a group from those that wait: the one at index from, and those
// behind it that may share a transaction with it. The caller has locked g.
func (g *gathering) take(from int) []*member {
	account := g.waiting[from].tx.attempt.key.Account
	var group []*member
	ids := map[keyID]bool{}
	left := g.waiting[:from]
	for _, m := range g.waiting[from:] {
		id := m.tx.attempt.id()
		if len(group) == maxGathered || ids[id] || g.engine.config.OneAccount && id.account != account {
			left = append(left, m)
			continue
		}
		ids[id] = true
		group = append(group, m)
	}
	clear(g.waiting[len(left):])
	g.waiting = left
	return group
}

// travel sends the transactions of a group, tells its other members what comes
// next for them, and returns that for the first, who called it.
func (g *gathering) travel(group []*member) turn {
	if len(group) == 1 {
		return turn{alone: true}
	}
	next := g.send(group)
	for _, m := range group[1:] {
		m.turn <- next
	}
	return next
}

// send sends the transactions of a group as one. If the server has rolled them
// back, each goes alone next. If not, they share their failure, which is none
// or a doubt.
func (g *gathering) send(group []*member) turn {
	// None of the group owns what they send: no context of theirs ends it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.engine.aborted), statementTimeout)
	defer cancel()
	conn, err := g.engine.acquire(ctx)
	if err != nil {
		return turn{alone: true} // each finds out for itself, and says it in its own words
	}
	defer giveBack(ctx, conn)

	failed := sendBatch(ctx, conn, together(group))
	if failed != nil && failed.fate() != fateDoubtful {
		return turn{alone: true}
	}
	unconfirmed := failed == nil && g.engine.config.Unconfirmed(conn.Conn())
	for _, m := range group {
		m.tx.unconfirmed = unconfirmed
		if failed != nil {
			m.tx.failure = &failure{err: failed.err, committing: true, last: true}
		}
	}
	g.engine.metrics.gathered.Observe(float64(len(group)))
	return turn{}
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
