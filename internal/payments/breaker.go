package payments

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sony/gobreaker/v2"
)

// refusedPause is how long nothing is sent after Stripe has refused our API
// key.
const refusedPause = 5 * time.Second

var (
	errKeyRefused = errors.New("stripe refuses our API key")
	// errKeyUnjudged tells that an answer, or the lack of one, says nothing
	// about the key.
	errKeyUnjudged = errors.New("no answer of Stripe's")
)

// newRefusedBreaker stops all requests for a while after one refusal of the API
// key, then lets one try.
func newRefusedBreaker(pause time.Duration, meters *stripeMeters) *gobreaker.CircuitBreaker[observation] {
	if pause == 0 {
		pause = refusedPause
	}
	return gobreaker.NewCircuitBreaker[observation](gobreaker.Settings{
		Timeout:     pause,
		IsExcluded:  func(err error) bool { return errors.Is(err, errKeyUnjudged) },
		ReadyToTrip: func(gobreaker.Counts) bool { return true },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			meters.refused(to != gobreaker.StateClosed)
		},
	})
}

// unlessRefused makes a request, unless Stripe refused our API key a moment
// ago. After the pause one request is let through to see, and only an answer of
// Stripe's lets the others follow.
func (s *Stripe) unlessRefused(ctx context.Context, call string, send func() observation) observation {
	o, err := s.refused.Execute(func() (observation, error) {
		start := time.Now()
		o := send()
		s.meters.took(call, time.Since(start))
		switch {
		case o.keyRefused():
			return o, errKeyRefused
		case o.object() || o.problemBody():
			return o, nil
		default:
			return o, errKeyUnjudged
		}
	})
	switch {
	case errors.Is(err, errKeyRefused):
		// This concerns the whole process, not the one request whose error is
		// returned.
		s.log.ErrorContext(ctx, "Stripe refuses our API key; no request is sent for a while. Check the key and its mode.",
			slog.Int("status", o.status), slog.String("code", stripeWord(o.problem.code)), slog.String("request", stripeWord(o.requestID)))
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		o = observation{fault: faultPaused, err: errKeyRefused}
	}
	o.call = call
	return o
}
