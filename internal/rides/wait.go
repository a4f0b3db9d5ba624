package rides

import (
	"context"
	"errors"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// rowPause and rowTries make some two seconds, in which a row is inserted even
// when the database is busy.
const rowTries = 12

//nolint:gochecknoglobals // a constant, in effect
var rowPause = phases.Backoff{Initial: 10 * time.Millisecond, Max: 250 * time.Millisecond}

// A wait is the waiting of one client. It holds neither a connection to the
// database nor a key.
type wait struct {
	watcher *watcher
	request *web.Request
	gone    <-chan struct{}
	over    *time.Timer
	// granted is for how long the client may stay: 0 once the process drains,
	// since it is then answered as if it had not preferred to wait.
	granted time.Duration
}

// beginWait begins to wait for a client, who stays for at most d before it is
// asked what to do next. It returns false if the client must not wait.
func (s *Service) beginWait(r *web.Request, d time.Duration) (*wait, bool) {
	if d == 0 || !s.watcher.enter() {
		return nil, false
	}
	return &wait{watcher: s.watcher, request: r, gone: r.Gone(), over: time.NewTimer(d), granted: d}, true
}

func (w *wait) end() {
	w.over.Stop()
	w.watcher.leave()
}

// why says why a client waits no longer.
type why int

const (
	changed why = iota // what it waited for has changed
	late               // its time is over
	drained            // the process drains
	gone               // it has hung up
)

// until waits until what is watched has changed, or this process has ended its
// attempt, or the client waits no longer.
func (w *wait) until(what watch, ended <-chan struct{}) (*sighting, why) {
	start := time.Now()
	defer func() { w.request.RecordWait(time.Since(start)) }()
	news, forget := w.watcher.watch(what)
	defer forget()
	select {
	case found := <-news:
		return found, changed
	case <-ended:
		return nil, changed
	case <-w.over.C:
		return nil, late
	case <-w.watcher.drained:
		w.granted = 0
		return nil, drained
	case <-w.gone:
		return nil, gone
	}
}

// run runs a keyed request, and waits for d at most while its key is in use or
// goes on in the background. It returns for how long the client was let wait:
// d, or 0 if it had not to wait or must not, or the process drains.
//
// A key that is in use may be released without an answer. Then the request goes
// on with it, as any retry would. One that asked to respond-async leaves that
// to the completer: it would try again at once, and again.
func (s *Service) run(r *web.Request, flow phases.Flow, request *phases.Request, d time.Duration) (result phases.Result, waited time.Duration, err error) {
	if result, err = s.accept(r.Context(), flow, request); isOpen(&result, err) {
		if wait, ok := s.beginWait(r, d); ok {
			err = s.await(wait, flow, request, &result, err)
			waited = wait.granted
		}
	}
	return result, waited, err
}

// accept runs a request as far as it gets. One that asked to respond-async, and
// comes while the key's row is being inserted, waits for the row for a moment:
// the row shows that the key goes on, as the other request is told.
func (s *Service) accept(ctx context.Context, flow phases.Flow, request *phases.Request) (phases.Result, error) {
	result, err := s.engine.Run(ctx, flow, *request)
	for try := 1; try <= rowTries && request.Async && errors.Is(err, phases.ErrInUse); try++ {
		if pause.For(ctx, rowPause.Next(try)) != nil {
			break
		}
		result, err = s.engine.Run(ctx, flow, *request)
	}
	return result, err
}

// await waits while the result of a request, and its error, are open. It brings
// result up to date, and returns its error.
func (s *Service) await(wait *wait, flow phases.Flow, request *phases.Request, result *phases.Result, err error) error {
	defer wait.end()
	ctx := wait.request.Context()
	for reason := changed; reason == changed && isOpen(result, err); {
		what := watch{Account: request.Account, Key: request.Key, AtEnd: result.Pending}
		_, reason = wait.until(what, s.engine.Ended(request.Account, request.Key))
		switch {
		case reason == gone:
			*result = phases.Result{}
			return web.ErrClientGone
		case result.Pending:
			// Trouble with the database takes nothing back: the ride was
			// accepted, and 202 says so.
			found, failed := s.engine.Look(ctx, *request)
			if !errors.Is(failed, phases.ErrUnavailable) || errors.Is(failed, phases.ErrGone) {
				*result, err = found, failed
			}
		default:
			*result, err = s.engine.Run(ctx, flow, *request)
		}
	}
	// The answer to the very request that made the key is no replay.
	result.Replayed = result.Replayed && result.Key.RequestID != request.RequestID
	return err
}

// isOpen reports whether a request may have an answer later.
func isOpen(result *phases.Result, err error) bool {
	return result.Pending || errors.Is(err, phases.ErrInUse)
}

// atRest waits until a ride is at rest, and returns it as it was last seen.
func (w *wait) atRest(account string, seen sighting) (sighting, error) {
	for !seen.atRest {
		news, reason := w.until(watch{Account: account, Ride: seen.ride.ID, Seen: seen.state}, nil)
		switch reason {
		case changed:
			seen = *news
		case gone:
			return sighting{}, web.ErrClientGone
		case late, drained:
			return seen, nil
		}
	}
	return seen, nil
}
