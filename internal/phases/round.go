package phases

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// A round is what one completer works on. One goroutine finds keys and starts
// to work on them.
type round struct {
	engine *Engine
	places *limit.Places // of accounts
	given  chan struct{} // holds one value if a place was given back
	list   int           // how many keys are listed at a time
	group  sync.WaitGroup
	// waiting are keys that are due, and whose accounts have all the places
	// that they can get.
	waiting []row
	// once leaves keys in known when they are done: a list of due keys that was
	// read meanwhile still shows them, and they would count as lost.
	once bool

	mu     sync.Mutex
	known  map[keyID]bool // those that wait or are worked on
	counts Counts
}

type keyID struct{ account, key string }

func newRound(e *Engine, concurrency int) *round {
	// More at once would find the engine busy, again and again.
	concurrency = min(concurrency, e.config.MaxInFlight)
	return &round{
		engine: e, places: limit.NewPlaces(concurrency), given: make(chan struct{}, 1), list: 4 * concurrency,
		known: map[keyID]bool{},
	}
}

// dispatch starts to work on keys that are due, as long as there are places. It
// reports whether more may be due, which it hasn't listed. A key that takes
// long holds one place and delays no other key by more, and an account whose
// keys take long leaves places for others.
func (r *round) dispatch(ctx context.Context, before *time.Time) (more bool, err error) {
	for r.engine.config.Realm() != "" && r.places.Free() > 0 && ctx.Err() == nil {
		crowded := r.crowded()
		due, err := r.engine.due(ctx, before, r.list, crowded)
		if err != nil {
			return false, err
		}
		// Several completers read the same list, and the shuffle keeps them
		// from claiming the same keys at the same time. The list holds the
		// oldest keys only, so none of them waits for long.
		rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
		listed := len(due)
		due = slices.DeleteFunc(due, func(seen row) bool { return !r.add(&seen) })
		r.waiting = append(r.waiting, due...)
		r.start(ctx)
		if listed < r.list || len(due) == 0 {
			return len(crowded) > 0, nil
		}
	}
	return r.engine.config.Realm() != "", nil
}

// crowded returns the accounts for whose keys there is no place. Without them,
// a list shows keys of others, however many keys of theirs are due.
func (r *round) crowded() []string {
	accounts := append([]string{}, r.places.Full()...) // never NULL
	for i := range r.waiting {
		if account := r.waiting[i].account; !slices.Contains(accounts, account) {
			accounts = append(accounts, account)
		}
	}
	return accounts
}

// start starts to work on the keys that wait, as far as there are places.
func (r *round) start(ctx context.Context) {
	r.waiting = slices.DeleteFunc(r.waiting, func(seen row) bool {
		if !r.places.Take(seen.account) {
			return false
		}
		r.group.Go(func() { r.work(ctx, &seen) })
		return true
	})
}

// await starts the keys that wait as places are given back. It returns when
// the time is over and there is a place, or when no key waits any more, if more
// may be due then. A nil time is never over.
func (r *round) await(ctx context.Context, over <-chan time.Time, more bool) {
	for isOver := false; !isOver || r.places.Free() == 0; {
		if over == nil && len(r.waiting) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-over:
			isOver = true
		case <-r.given:
			r.start(ctx)
			if more && len(r.waiting) == 0 && r.places.Free() > 0 {
				return
			}
		}
	}
}

// add notes a key. It returns false if the key was known already.
func (r *round) add(seen *row) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := keyID{seen.account, seen.key}
	if r.known[id] {
		return false
	}
	r.known[id] = true
	return true
}

// work runs a key that is due as far as it gets.
func (r *round) work(ctx context.Context, seen *row) {
	defer r.giveBack(seen.account)
	flow := r.engine.flows[flowID{seen.flow, seen.version}]
	_, err := r.engine.runAttempt(ctx, r.engine.nextAttempt(flow, seen, nil))
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.once {
		delete(r.known, keyID{seen.account, seen.key})
	}
	r.count(err)
}

// giveBack gives an account's place back, and wakes await.
func (r *round) giveBack(account string) {
	r.places.Give(account)
	select {
	case r.given <- struct{}{}:
	default: // it will look at all places
	}
}

// count counts how an attempt of the completer ended.
func (r *round) count(err error) {
	label := "released"
	switch {
	case errors.Is(err, errFenced), errors.Is(err, ErrInUse):
		label = "lost"
		r.counts.Lost++
	case errors.Is(err, ErrParked):
		label = "parked"
		r.counts.Parked++
	case err == nil, errors.Is(err, ErrKeyExpired):
		label = "finished"
		r.counts.Finished++
	default:
		r.counts.Released++
	}
	r.engine.metrics.completed.WithLabelValues(label).Inc()
}

// wait waits until no key is being worked on.
func (r *round) wait() Counts {
	r.group.Wait()
	return r.counts
}
