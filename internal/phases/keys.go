package phases

import (
	"sync"
	"time"
)

// atOnce is how many look-ups of one key this process makes at once. It is not
// one, so that a connection that hangs holds up nobody else.
const atOnce = 2

// defaultMemory is the default of Config.Memory. While the lease lasts, what is
// this old is still true, unless an operator has parked the key in the meantime.
// Then a client may be told that the key is in use, and to try again, after
// another process has said that it is under review.
const defaultMemory = 100 * time.Millisecond

// keyTable knows which keys this process is reading and working on. It keeps
// clients that send one key again and again from taking the connections of
// others: of many requests with one key, few read the row, and one claims it.
// Nothing is decided by it: the row alone says who holds a key.
type keyTable struct {
	mu   sync.Mutex
	keys map[keyID]*keyState
	// trips counts the groups of look-ups that are on their way, and waiting
	// holds the look-ups that go next.
	trips   int
	waiting []*lookUp
}

// A keyState is kept while its key is being read or worked on.
type keyState struct {
	// next is the look-up that isn't sent yet. It answers all requests that
	// come until then: what was sent before they came may not show what their
	// client has been told meanwhile. readers counts those that are sent. If
	// there are enough of them, next waits for one of them to end, and else in
	// waiting.
	next    *lookUp
	readers int
	// attempts counts this process's attempts at the key. claiming means that
	// one of them is still claiming it.
	attempts int
	claiming bool
	// holder is the token of the attempt that has claimed the key last, until it
	// lets the key go, or a look-up shows that somebody has taken it. heldSince is
	// when that claim was known to be done.
	holder    string
	heldSince time.Time
	// ended is closed when an attempt ends, if anybody asked for it.
	ended chan struct{}
	// latest is what the last look-up found, nil for no row, and age has run
	// since that was sent. The zero value is older than anything.
	latest *reading
	age    stopwatch
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
		s.age.elapsed() < s.latest.leasedUntil.Sub(s.latest.now)
}

// forget drops a state that is idle. The caller has locked the table.
func (t *keyTable) forget(id keyID, state *keyState) {
	if state.next == nil && state.readers == 0 && state.attempts == 0 {
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
	state.holder, state.heldSince = token, time.Now()
	state.age = stopwatch{}
}

// letGo notes that an attempt is about to send a transaction that leaves its key
// to others, or finished. As soon as that has committed, another process may
// have told a client so, long before its answer arrives here: nothing that was
// looked up during the attempt shows that this process holds the key.
func (t *keyTable) letGo(id keyID, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.keys[id]; state != nil && state.holder == token {
		state.holder = ""
	}
}

// note keeps what a look-up has found while an attempt works on the key. One that
// was sent since the claim, and shows another holder or none, ends the holder's
// time for good: an older look-up may still arrive that shows it.
func (s *keyState) note(l *lookUp) {
	if s.attempts == 0 {
		return
	}
	s.latest, s.age = l.found, l.sent
	if l.sent.monotonic.After(s.heldSince) && (l.found == nil || orZero(l.found.token) != s.holder) {
		s.holder = ""
	}
}

// end notes that an attempt is over, and tells those that wait for that. What
// was looked up during it answers nobody any more.
func (t *keyTable) end(id keyID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(id)
	state.attempts--
	state.age = stopwatch{}
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
