package payments

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// refusedPause is how long nothing is sent after Stripe has refused the API
// key, unless Config.RefusedPause says otherwise.
const refusedPause = 5 * time.Second

var (
	errKeyRefused = errors.New("stripe refuses our API key")
	// errKeyUnjudged means that an answer, or the lack of one, says nothing
	// about the API key.
	errKeyUnjudged = errors.New("no answer from Stripe")
)

// A keyGuard decides whether anything may be sent with the API key.
type keyGuard struct {
	// breaker opens after one refusal of the API key as a whole. After the
	// pause it lets one request through, and closes only if Stripe answers that
	// one without refusing the key.
	breaker *gobreaker.CircuitBreaker[*observation]
	refused atomic.Pointer[error] // why nothing may be sent; see Refuse

	mu      sync.Mutex
	tripped map[string]bool // the ids of the requests that have opened the breaker
}

func newKeyGuard(pause time.Duration, metrics *metrics) *keyGuard {
	if pause == 0 {
		pause = refusedPause
	}
	return &keyGuard{breaker: gobreaker.NewCircuitBreaker[*observation](gobreaker.Settings{
		Timeout:     pause,
		IsExcluded:  func(err error) bool { return errors.Is(err, errKeyUnjudged) },
		ReadyToTrip: func(gobreaker.Counts) bool { return true },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			metrics.keyRefused.set(refusedByStripe, to != gobreaker.StateClosed)
		},
	})}
}

// A keyState is what Stripe says about the API key after it has refused a
// request.
type keyState int

const (
	keyUnasked  keyState = iota
	keyAccepted          // the refusal concerns the request alone
	keyRefused           // the refusal concerns all requests
	keyUnclear           // the question wasn't answered
)

// maxTripped bounds how many requests are remembered. Only a few open the
// breaker, because it stops all others.
const maxTripped = 10_000

// add notes that a request has opened the breaker, and reports whether it had
// done so before.
func (g *keyGuard) add(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.tripped[id]
	if g.tripped == nil || len(g.tripped) >= maxTripped {
		g.tripped = map[string]bool{}
	}
	g.tripped[id] = true
	return before
}

// keyError returns what the breaker is told of a request: errKeyRefused, nil if
// Stripe accepted the API key, or errKeyUnjudged.
func (o *observation) keyError() error {
	switch {
	case o.key == keyRefused:
		return errKeyRefused
	case o.key == keyUnclear:
		return errKeyUnjudged
	case o.hasObject() || o.hasError():
		return nil
	default:
		return errKeyUnjudged
	}
}

// logRefusedKey logs that the API key was refused. It concerns the whole
// process, not only the request whose error is returned.
func (s *Stripe) logRefusedKey(ctx context.Context, o *observation) {
	s.log.ErrorContext(ctx, "Stripe refuses our API key; no request is sent for a while. Check the key and its mode.",
		slog.Int("status", o.status), slog.String("code", safeWord(o.apiError.code)), slog.String("request", safeWord(o.requestID)))
}
