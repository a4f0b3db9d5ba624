package payments

import (
	"context"
	"errors"
	"log/slog"
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

// newKeyBreaker returns a circuit breaker that opens after one refusal of the
// API key. After the pause it lets one request through, and closes only if
// Stripe answers that one without refusing the key.
func newKeyBreaker(pause time.Duration, metrics *metrics) *gobreaker.CircuitBreaker[observation] {
	if pause == 0 {
		pause = refusedPause
	}
	return gobreaker.NewCircuitBreaker[observation](gobreaker.Settings{
		Timeout:     pause,
		IsExcluded:  func(err error) bool { return errors.Is(err, errKeyUnjudged) },
		ReadyToTrip: func(gobreaker.Counts) bool { return true },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			metrics.setKeyRefused(to != gobreaker.StateClosed)
		},
	})
}

// keyError returns what the breaker is told of a request: errKeyRefused, nil if
// Stripe accepted the API key, or errKeyUnjudged.
func (o observation) keyError() error {
	switch {
	case o.keyRefused():
		return errKeyRefused
	case o.hasObject() || o.hasError():
		return nil
	default:
		return errKeyUnjudged
	}
}

// logRefusedKey logs that the API key was refused. It concerns the whole
// process, not only the request whose error is returned.
func (s *Stripe) logRefusedKey(ctx context.Context, o observation) {
	s.log.ErrorContext(ctx, "Stripe refuses our API key; no request is sent for a while. Check the key and its mode.",
		slog.Int("status", o.status), slog.String("code", safeWord(o.apiError.code)), slog.String("request", safeWord(o.requestID)))
}
