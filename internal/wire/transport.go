package wire

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// Transport wraps the requests of an HTTP client. It is safe for concurrent use.
type Transport struct {
	base http.RoundTripper

	mu   sync.Mutex
	plan Plan
	n    int
}

// NewTransport returns a wrapper of base under whose plan everything passes.
func NewTransport(base http.RoundTripper) *Transport {
	return &Transport{base: base, plan: Nothing}
}

// Plan puts a plan in force and counts from 1 again.
func (t *Transport) Plan(plan Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan, t.n = plan, 0
}

// Messages returns the number of requests since the last Plan.
func (t *Transport) Messages() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

func (t *Transport) next(message []byte) Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return t.plan(t.n, message)
}

// RoundTrip sends one request. A plan sees its method and path.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	fault := t.next([]byte(request.Method + " " + request.URL.Path))
	switch fault.Kind {
	case CutBefore:
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, errCut
	case HoldBefore:
		fault.Hold()
	case CutSent, CutAfter, HoldAfter, Pass:
	}
	response, err := t.base.RoundTrip(request)
	if err != nil || fault.Kind == Pass || fault.Kind == HoldBefore {
		return response, err
	}
	// The other side has acted once its whole answer is here.
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	if fault.Kind == CutAfter || fault.Kind == CutSent {
		return nil, errCut
	}
	fault.Hold()
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}
