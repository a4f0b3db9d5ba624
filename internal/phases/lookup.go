package phases

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// freshFor is how long a look-up of a key answers other requests while an
// attempt of this process works on the key. A claim lasts for seconds, so what
// is this old is still true, unless an operator or another process has taken
// the key over in the meantime; then the client is told to try again.
const freshFor = 100 * time.Millisecond

// How long requests wait for others with the same key before they go their own
// way: one connection that hangs must not hold up everybody who comes after.
const (
	// readPatience bounds the wait for somebody else's look-up.
	readPatience = 250 * time.Millisecond
	// claimPatience is how long one attempt claims a key alone.
	claimPatience = time.Second
)

// keyTable knows which keys this process is reading and working on. It keeps
// clients that send one key again and again from taking the connections of
// others: of many requests with one key, one reads the row and one claims it.
// Nothing is decided by it: the row alone says who holds a key.
type keyTable struct {
	mu   sync.Mutex
	keys map[keyID]*keyState
}

// A keyState is kept while its key is being read or worked on.
type keyState struct {
	// reading means that a look-up is on its way. Requests that come after it
	// was sent wait for next: what was sent before them may not show what their
	// client has been told meanwhile.
	reading bool
	next    *sharedRead
	// attempts counts this process's attempts at the key: more than one only
	// after a lease has ended. One of them at a time is claiming the key.
	attempts     int
	claiming     *attempt
	claimingFrom time.Time
	// latest is what the last look-up found, nil for no row, and latestAt is
	// when it was sent.
	latest   *reading
	latestAt time.Time
}

// A sharedRead is a look-up that several requests wait for.
type sharedRead struct {
	done  chan struct{}
	found *reading
	err   error
}

// state returns the state of a key. The caller has locked the table.
func (t *keyTable) state(id keyID) *keyState {
	state := t.keys[id]
	if state == nil {
		state = &keyState{}
		t.keys[id] = state
	}
	return state
}

// forget drops a state that is idle. The caller has locked the table.
func (t *keyTable) forget(id keyID, state *keyState) {
	if !state.reading && state.attempts == 0 {
		delete(t.keys, id)
	}
}

// begin notes that an attempt is about to claim the key. It returns false if
// another one has just begun to. An attempt that has claimed the key is no
// obstacle: the row was seen to be free, so its lease has ended.
func (t *keyTable) begin(id keyID, a *attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	if state.claiming != nil && time.Since(state.claimingFrom) < claimPatience {
		return false
	}
	state.claiming, state.claimingFrom = a, time.Now()
	state.attempts++
	return true
}

// claimed notes that the attempt has claimed the key. What was looked up before
// answers nobody any more.
func (t *keyTable) claimed(id keyID, a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	if state.claiming == a {
		state.claiming = nil
	}
	state.latestAt = time.Time{}
	t.forget(id, state)
}

// end notes that the attempt is over. What was looked up during it answers
// nobody any more.
func (t *keyTable) end(id keyID, a *attempt) {
	t.mu.Lock()
	state := t.state(id)
	state.attempts--
	t.mu.Unlock()
	t.claimed(id, a)
}

// lookUp returns the key's row for a request, or nil if there is none. At most
// two look-ups of one key are on their way or wait, however many requests come.
// While an attempt of this process works on the key, one that was sent shortly
// before answers too.
func (e *Engine) lookUp(ctx context.Context, id keyID) (*reading, error) {
	t := &e.keys
	t.mu.Lock()
	state := t.state(id)
	if state.attempts > 0 && time.Since(state.latestAt) < freshFor {
		defer t.mu.Unlock()
		return state.latest, nil
	}
	if state.reading {
		if state.next == nil {
			state.next = &sharedRead{done: make(chan struct{})}
		}
		next := state.next
		t.mu.Unlock()
		select {
		case <-next.done:
			return next.found, next.err
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for a look-up: %w", ErrUnavailable, context.Cause(ctx))
		case <-time.After(readPatience):
			return e.read(ctx, id.account, id.key)
		}
	}
	state.reading = true
	t.mu.Unlock()
	return e.readShared(ctx, id)
}

// readShared reads the key's row, and then starts the look-up that others wait
// for.
func (e *Engine) readShared(ctx context.Context, id keyID) (*reading, error) {
	sentAt := time.Now()
	found, err := e.read(ctx, id.account, id.key)
	t := &e.keys
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	if err == nil && state.attempts > 0 {
		state.latest, state.latestAt = found, sentAt
	}
	next := state.next
	state.next, state.reading = nil, next != nil
	t.forget(id, state)
	if next != nil {
		go func() {
			next.found, next.err = e.readShared(context.WithoutCancel(ctx), id)
			close(next.done)
		}()
	}
	return found, err
}
