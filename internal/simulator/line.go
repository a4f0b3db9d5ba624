package simulator

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// line is the connection of all riders: it counts what goes over it, and breaks
// when it is told to. It is safe for concurrent use.
type line struct {
	next http.RoundTripper
	// requests is how many hails and cancels were sent, and replays how many of
	// the answers to them were stored ones.
	requests, replays atomic.Int64
}

func newLine() *line {
	return &line{next: &http.Transport{
		TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 100, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// A point is one at which a connection breaks.
type point int

const (
	beforeSend point = iota // the request never leaves
	afterSend               // the request has arrived, or is about to; nobody waits for the answer
	afterAct                // the answer is there, and is lost
)

func breaks() []point { return []point{beforeSend, afterSend, afterAct} }

type breakKey struct{}

// A breaker breaks one request.
type breaker struct {
	at   point
	done atomic.Bool
}

// breaking returns a context whose first request breaks at a point.
func breaking(ctx context.Context, at point) context.Context {
	return context.WithValue(ctx, breakKey{}, &breaker{at: at})
}

// errBroken is what a client sees of a connection that broke.
var errBroken = errors.New("the connection is broken")

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	b, _ := r.Context().Value(breakKey{}).(*breaker)
	if b != nil && b.done.Swap(true) {
		b = nil
	}
	if b != nil && b.at == beforeSend {
		return nil, errBroken
	}
	if r.Method == http.MethodPost {
		l.requests.Add(1)
	}
	if b != nil && b.at == afterSend {
		ctx, leave := context.WithCancel(r.Context())
		defer leave()
		r = r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { leave() },
		}))
	}
	response, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if b != nil {
		_ = response.Body.Close()
		return nil, errBroken
	}
	if response.Header.Get("Idempotent-Replayed") == "true" {
		l.replays.Add(1)
	}
	return response, nil
}
