package payments

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	stripeDialTimeout = 5 * time.Second
	stripeTLSTimeout  = 5 * time.Second
	// stripeIdleTimeout is short, because a connection that Stripe closes just
	// as it is used again costs a failed try.
	stripeIdleTimeout  = 30 * time.Second
	stripeIdleConns    = 64
	stripeHeaderLimit  = 64 << 10 // bytes
	stripeReplyLimit   = 4 << 20  // bytes: a page of a hundred payment intents is about 300 KB
	stripeKeyHeader    = "Idempotency-Key"
	stripeReplayHeader = "Idempotent-Replayed"
)

var errStripeKeyMissing = errors.New("a POST without its idempotency key is never sent")

// An exchange is one request and its answer as they were seen on the wire.
// stripe-go's own errors cannot replace it: they don't tell whether a byte may
// have left, and some of them quote the answer.
//
// Only the three flags are used by other goroutines than the request's own.
type exchange struct {
	key string // the idempotency key that a POST must carry

	handed, wanted, connected atomic.Bool

	status int // 0: no answer
	header http.Header
	err    error // why there is no answer, or not a whole one
}

type exchangeKey struct{}

// watch returns ctx for a request that is to be seen by x.
func (x *exchange) watch(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { x.wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	})
}

// unsent tells that certainly no byte of the request has left: it was never
// handed to a transport, or the transport looked for a connection (name, dial,
// proxy, TLS handshake) and never had one. A transport that doesn't report to
// httptrace is taken to have sent.
func (x *exchange) unsent() bool {
	return !x.handed.Load() || x.wanted.Load() && !x.connected.Load()
}

// retryAfter returns what the answer's Retry-After asks for, in either form of
// RFC 9110, section 10.2.3.
func (x *exchange) retryAfter() time.Duration {
	text := x.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// observation returns what was seen, but for the answer's body; err is what
// stripe-go made of it.
func (x *exchange) observation(err error) observation {
	o := observation{
		status:     x.status,
		replayed:   x.header.Get(stripeReplayHeader) == "true",
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

// A stripeWire is the RoundTripper under stripe-go. It sends each request at
// most once, and no POST without the idempotency key that its exchange was made
// with.
type stripeWire struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w stripeWire) RoundTrip(req *http.Request) (*http.Response, error) {
	seen, watched := req.Context().Value(exchangeKey{}).(*exchange)
	if !watched {
		seen = new(exchange)
	}
	if req.Method != http.MethodGet && (seen.key == "" || req.Header.Get(stripeKeyHeader) != seen.key) {
		// stripe-go would invent a key, another one for every try, and a second
		// try would charge twice.
		seen.err = errStripeKeyMissing
		closeBody(req)
		return nil, errStripeKeyMissing
	}
	if err := req.Context().Err(); err != nil {
		// It is known here that nothing was sent; a transport that was handed
		// the request would leave it open.
		seen.err = err
		closeBody(req)
		return nil, err
	}
	once := req.WithContext(req.Context()) // a RoundTripper must not change the caller's request
	// net/http sends a POST with an Idempotency-Key again, unasked, when a
	// reused connection breaks. It cannot without GetBody; and every send has
	// to be counted and bounded by the key's window.
	once.GetBody = nil
	seen.handed.Store(true)
	reply, err := w.next.RoundTrip(once)
	if err != nil {
		seen.err = err
		return nil, err
	}
	seen.status, seen.header = reply.StatusCode, reply.Header
	reply.Body = &watchedBody{ReadCloser: http.MaxBytesReader(nil, reply.Body, stripeReplyLimit), seen: seen}
	return reply, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // it was never read
	}
}

// A watchedBody remembers why an answer could not be read to its end.
type watchedBody struct {
	io.ReadCloser
	seen *exchange
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.seen.err = err
	}
	return n, err
}

// newTransport returns the transport to Stripe's own servers. It speaks
// HTTP/1.1 alone, because HTTP/2 has silent re-sends of its own. A proxy is
// taken from the environment (HTTPS_PROXY, NO_PROXY), as many networks let
// nothing out without one; TLS stays end to end, so the proxy sees no key.
// Redirects are none of a transport's business.
func newTransport(timeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: stripeDialTimeout, KeepAlive: stripeIdleTimeout}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  stripeProxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    stripeTLSTimeout,
		ResponseHeaderTimeout:  timeout,
		IdleConnTimeout:        stripeIdleTimeout,
		MaxIdleConnsPerHost:    stripeIdleConns,
		MaxResponseHeaderBytes: stripeHeaderLimit,
		Protocols:              &protocols,
	}
}

// stripeProxy keeps the proxy's address, which may hold a password, out of
// errors.
func stripeProxy(req *http.Request) (*url.URL, error) {
	address, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, errors.New("the proxy that the environment names is no URL")
	}
	return address, nil
}

// A wireError is an error of a transport without what it may quote: addresses
// with passwords, and pieces of answers. The error itself stays within reach of
// errors.Is.
type wireError struct {
	text  string
	cause error
}

func (e *wireError) Error() string { return e.text }

func (e *wireError) Unwrap() error { return e.cause }

// describeWire returns err as it may be logged: in words of ours or of the
// operating system.
func describeWire(err error) error {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var tooLarge *http.MaxBytesError
	var system syscall.Errno
	var timeout net.Error
	text := "the connection broke"
	switch {
	case errors.Is(err, errStripeKeyMissing):
		text = errStripeKeyMissing.Error()
	case errors.Is(err, context.Canceled):
		text = "the request was canceled"
	case errors.As(err, &timeout) && timeout.Timeout():
		text = "no answer in time"
	case errors.As(err, &dns):
		text = "the name of Stripe's server cannot be resolved"
	case errors.As(err, &certificate):
		text = "the certificate of Stripe's server cannot be verified"
	case errors.As(err, &tooLarge):
		text = fmt.Sprintf("the answer is longer than %d bytes", tooLarge.Limit)
	case errors.As(err, &system):
		text = system.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "the connection ended before the answer did"
	}
	return &wireError{text: text, cause: err}
}
