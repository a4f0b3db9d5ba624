package phases

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// atOnce is how many look-ups of one key this process makes at once. It is not
// one, so that a connection that hangs holds up nobody else.
const atOnce = 2

// defaultMemory is the default of Config.Memory. A claim lasts for seconds, so
// what is this old is still true, unless an operator or another process has
// taken the key over in the meantime; then the client is told to try again.
const defaultMemory = 100 * time.Millisecond

// keyTable knows which keys this process is reading and working on. It keeps
// clients that send one key again and again from taking the connections of
// others: of many requests with one key, few read the row, and one claims it.
// Nothing is decided by it: the row alone says who holds a key.
type keyTable struct {
	mu   sync.Mutex
	keys map[keyID]*keyState
}

// A keyState is kept while its key is being read or worked on.
type keyState struct {
	// readers counts the look-ups that are on their way. If there are enough of
	// them, further requests wait for next: what was sent before they came may
	// not show what their client has been told meanwhile.
	readers int
	next    *sharedRead
	// attempts counts this process's attempts at the key. claiming means that
	// one of them is still claiming it.
	attempts int
	claiming bool
	// holder is the token of the attempt that has claimed the key last.
	holder string
	// ended is closed when an attempt ends, if anybody asked for it.
	ended chan struct{}
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

// isHeld reports whether the last look-up shows that an attempt of this process
// holds the key, with a lease that hasn't ended since. Nobody else can have
// finished the key then, unless an operator has taken it away.
func (s *keyState) isHeld() bool {
	return s.attempts > 0 && s.latest != nil && s.holder != "" && orZero(s.latest.token) == s.holder && s.latest.leased() &&
		time.Since(s.latestAt) < s.latest.leasedUntil.Sub(s.latest.now)
}

// forget drops a state that is idle. The caller has locked the table.
func (t *keyTable) forget(id keyID, state *keyState) {
	if state.readers == 0 && state.attempts == 0 {
		delete(t.keys, id)
	}
}

// begin notes that an attempt is about to claim the key, which is new if there
// was no row. It returns false if another one is: two would only wait for each
// other, at a connection each. An attempt that has claimed the key counts only
// if there was no row: now there is. A row was seen to be free, so the lease of
// that attempt has ended.
func (t *keyTable) begin(id keyID, isNew bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	if state.claiming || isNew && state.attempts > 0 {
		return false
	}
	state.claiming = true
	state.attempts++
	return true
}

// claimed notes that an attempt has claimed the key, or won't any more. What
// was looked up before answers nobody after that.
func (t *keyTable) claimed(id keyID, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	state.claiming = false
	state.holder = token
	state.latestAt = time.Time{}
}

// end notes that an attempt is over, and tells those that wait for that. What
// was looked up during it answers nobody any more.
func (t *keyTable) end(id keyID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	state.attempts--
	state.latestAt = time.Time{}
	if state.ended != nil {
		close(state.ended)
		state.ended = nil
	}
	t.forget(id, state)
}

// Ended returns a channel that is closed as soon as one of the attempts that
// this process makes at the key ends, whatever came of it. It is nil if there
// is no attempt: then the key is at rest, or another process has it.
func (e *Engine) Ended(account, key string) <-chan struct{} {
	t := &e.keys
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.keys[keyID{account, key}]
	if state == nil || state.attempts == 0 {
		return nil
	}
	if state.ended == nil {
		state.ended = make(chan struct{})
	}
	return state.ended
}

// lookUp returns the key's row for a request, or nil if there is none. However
// many requests with one key come at once, few look-ups are made. While an
// attempt of this process works on the key, one that was made shortly before
// answers too, without a connection. A request that makes a look-up of its own
// is let in at the door, if it has a visit to make there.
func (e *Engine) lookUp(ctx context.Context, id keyID, v *visit) (*reading, error) {
	t := &e.keys
	t.mu.Lock()
	state := t.state(id)
	switch {
	case state.isHeld() && time.Since(state.latestAt) < e.config.Memory:
		defer t.mu.Unlock()
		return state.latest, nil
	case state.readers < atOnce:
		if err := e.letIn(v); err != nil {
			defer t.mu.Unlock()
			t.forget(id, state)
			return nil, err
		}
		state.readers++
		t.mu.Unlock()
		return e.readShared(ctx, id)
	case state.next == nil:
		state.next = &sharedRead{done: make(chan struct{})}
	}
	next := state.next
	t.mu.Unlock()
	// As long as a look-up may take. Those that hang would hold it up for ever.
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout+statementTimeout)
	defer cancel()
	select {
	case <-next.done:
		return next.found, next.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for a look-up: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// readInTurn is read in one of the places of those who read; see Read.
func (e *Engine) readInTurn(ctx context.Context, id keyID) (*reading, error) {
	if err := e.takePlace(ctx); err != nil {
		return nil, err
	}
	defer func() { <-e.readers }()
	return e.read(ctx, id.account, id.key)
}

// readShared reads the key's row, and then starts the look-up that others wait
// for.
func (e *Engine) readShared(ctx context.Context, id keyID) (*reading, error) {
	sentAt := time.Now()
	found, err := e.readInTurn(ctx, id)
	t := &e.keys
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	if err == nil && state.attempts > 0 {
		state.latest, state.latestAt = found, sentAt
	}
	next := state.next
	state.next = nil
	if next == nil {
		state.readers--
		t.forget(id, state)
		return found, err
	}
	go func() {
		next.found, next.err = e.readShared(context.WithoutCancel(ctx), id)
		close(next.done)
	}()
	return found, err
}
