package payments

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	keyHeader      = "Idempotency-Key"
	replayedHeader = "Idempotent-Replayed"
)

var errKeyMissing = errors.New("a POST without its idempotency key is never sent")

// An exchange is one request and its answer as seen on the wire. stripe-go's
// own errors can't replace it: they don't say whether a byte may have been
// sent, and some of them quote the answer.
//
// Only the three flags are used by other goroutines than the request's own.
type exchange struct {
	handed, wanted, connected atomic.Bool // see unsent

	status int // 0: no answer
	header http.Header
	err    error           // why there is no answer, or only a part of one
	places []chan struct{} // those that the answer has in memory; see readBody
}

// watch returns ctx for the request that x records.
func (x *exchange) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { x.wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	})
}

// unsent reports whether certainly no byte of the request was sent: it was
// never handed to a transport, or the transport asked for a connection (name,
// dial, proxy, TLS handshake) and never got one. A transport that doesn't
// report to httptrace may have sent it.
func (x *exchange) unsent() bool {
	return !x.handed.Load() || x.wanted.Load() && !x.connected.Load()
}

// retryAfter returns how long the answer's Retry-After asks to wait, in either
// form of RFC 9110, section 10.2.3.
func (x *exchange) retryAfter() time.Duration {
	text := x.header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// observation returns what was seen, without the answer's body. err is
// stripe-go's error, for when the request never reached the wire.
func (x *exchange) observation(err error) *observation {
	o := &observation{
		status:     x.status,
		replayed:   x.header.Get(replayedHeader) == "true",
		retryAfter: x.retryAfter(),
		requestID:  x.header.Get("Request-Id"),
	}
	if x.err == nil && x.status != 0 {
		return o
	}
	o.fault = faultLost
	if x.unsent() {
		o.fault = faultUnsent
	}
	o.err = describeWire(cmp.Or(x.err, err))
	return o
}

// send hands a request to the transport, once, and reads the answer to its end.
// It refuses a POST that doesn't carry the idempotency key.
func (x *exchange) send(
	transport http.RoundTripper, req *http.Request, key string, tiers []answerTier,
) (answer *http.Response, body []byte, err error) {
	defer func() { x.err = err }()
	if req.Method != http.MethodGet && (key == "" || req.Header.Get(keyHeader) != key) {
		// stripe-go would make up a key of its own, another one for every
		// attempt, and a second attempt would charge twice.
		return nil, nil, errKeyMissing
	}
	if err := req.Context().Err(); err != nil {
		// Here it is certain that nothing was sent. With a transport that had
		// been handed the request it would not be.
		return nil, nil, err
	}
	x.handed.Store(true)
	answer, err = transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	x.status, x.header = answer.StatusCode, answer.Header
	body, err = x.readBody(req.Context(), answer, tiers)
	return answer, body, err
}

// A wireError is an error of a transport without what that may quote: addresses
// with passwords, and pieces of answers. errors.Is still finds the cause.
type wireError struct {
	text  string
	cause error
}

func (e *wireError) Error() string { return e.text }

func (e *wireError) Unwrap() error { return e.cause }

// describeWire returns err as it may be logged: in our own words or in those of
// the operating system.
func describeWire(err error) error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var system syscall.Errno
	var timeout net.Error
	text := "the connection broke"
	switch {
	case errors.Is(err, errKeyMissing):
		text = errKeyMissing.Error()
	case errors.Is(err, context.Canceled):
		text = "the request was canceled"
	case errors.As(err, &timeout) && timeout.Timeout():
		text = "no answer in time"
	case errors.As(err, &dns):
		text = "the name of Stripe's server cannot be resolved"
	case errors.As(err, &certificate):
		text = "the certificate of Stripe's server cannot be verified"
	case errors.Is(err, errTooLong), errors.Is(err, errTooDeep):
		text = err.Error()
	case errors.As(err, &system):
		text = system.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "the connection ended before the answer did"
	}
	return &wireError{text: text, cause: err}
}
