package phases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// A lookUp is one reading of a key's row, for one request or more.
type lookUp struct {
	id    keyID
	sent  stopwatch
	done  chan struct{}
	found *reading
	err   error
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
	case state.isHeld() && state.age.elapsed() < e.config.Memory:
		defer t.mu.Unlock()
		return state.latest, nil
	case state.next == nil:
		if err := e.letIn(v); err != nil {
			defer t.mu.Unlock()
			t.forget(id, state)
			return nil, err
		}
		state.next = &lookUp{id: id, done: make(chan struct{})}
		if state.readers < atOnce {
			e.sendNext(state) //nolint:contextcheck // no request's context ends what others wait for too
		}
	}
	next := state.next
	t.mu.Unlock()
	began := time.Now()
	defer func() { trace.LineOf(ctx).AddDatabase(time.Since(began)) }()
	// As long as a look-up may take. Those that hang would hold it up for ever.
	patience := time.NewTimer(acquireTimeout + statementTimeout)
	defer patience.Stop()
	select {
	case <-next.done:
		return next.found, next.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for a look-up: %w", ErrUnavailable, context.Cause(ctx))
	case <-patience.C:
		return nil, fmt.Errorf("%w: a look-up takes too long", ErrUnavailable)
	}
}

// sendNext sends the key's next look-up: at once, or with the others that wait
// for a group on its way, as transactions do. The caller has locked the table.
func (e *Engine) sendNext(state *keyState) {
	t := &e.keys
	t.waiting = append(t.waiting, state.next)
	if departs(len(t.waiting), t.trips) {
		t.trips++
		go e.travel()
	}
}

// travel makes look-ups, one group after the other, until none goes. A group
// that takes long, because something hangs, doesn't hold up those behind it:
// they go without it. They belong to no request, so none that is given up takes
// an answer from others.
func (e *Engine) travel() {
	for {
		group := e.keys.take()
		if group == nil {
			return
		}
		late := time.AfterFunc(e.gathering.patience, e.travel)
		e.readTogether(group)
		if !late.Stop() {
			return
		}
	}
}

// take returns the look-ups that go next, or ends a trip if none go.
func (t *keyTable) take() []*lookUp {
	t.mu.Lock()
	defer t.mu.Unlock()
	// What waits is taken by this trip, or by another one, or by the one that
	// goes in the place of one that is late.
	if others := t.trips - 1; !departs(len(t.waiting), others) {
		t.trips--
		return nil
	}
	n := min(len(t.waiting), maxGathered)
	group, now := t.waiting[:n:n], startStopwatch()
	t.waiting = t.waiting[n:]
	for _, l := range group {
		l.sent = now
		state := t.state(l.id)
		state.next = nil
		state.readers++
	}
	return group
}

// readTogether makes look-ups in one round trip. If that fails, or hangs, each is
// made by itself, so that nobody pays for a stranger's fault.
func (e *Engine) readTogether(group []*lookUp) {
	timeout := statementTimeout
	if len(group) > 1 {
		timeout = gatherTimeout
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.aborted), timeout)
	defer cancel()
	err := e.Rerun(ctx, func(ctx context.Context) error {
		reads := make([]statement, len(group))
		for i, l := range group {
			reads[i] = readKey(l.id, &l.found)
		}
		return e.readRows(ctx, reads...)
	})
	for _, l := range group {
		if err != nil && len(group) > 1 && !errors.Is(err, errUnsent) {
			go e.readTogether([]*lookUp{l})
			continue
		}
		l.err = err
		e.arrive(l)
	}
}

// arrive ends a look-up, and sends the next one of its key if that has waited
// for it.
func (e *Engine) arrive(l *lookUp) {
	t := &e.keys
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.state(l.id)
	if l.err == nil {
		state.note(l)
	}
	if state.next != nil && state.readers == atOnce {
		e.sendNext(state)
	}
	state.readers--
	t.forget(l.id, state)
	close(l.done)
}

// Rerun runs a statement for somebody who holds no key, again if the connection
// is lost; see the function Rerun. Together such statements, and claims, use
// half of the pool's connections at most: the others are kept for those who hold
// a key, so that what has begun can end however many come.
func (e *Engine) Rerun(ctx context.Context, run func(context.Context) error) error {
	if err := e.takePlace(ctx); err != nil {
		return err
	}
	defer e.leavePlace()
	return Rerun(ctx, run)
}

// takePlace takes one of the places of those who hold no key: they read, or
// claim one.
func (e *Engine) takePlace(ctx context.Context) error {
	select {
	case e.places <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	select {
	case e.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for a place: %w: %w", ErrUnavailable, errUnsent, context.Cause(ctx))
	}
}

func (e *Engine) leavePlace() { <-e.places }
