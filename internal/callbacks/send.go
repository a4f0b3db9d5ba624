package callbacks

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// A Message is one attempt at a callback, in the form of Standard Webhooks
// 1.0.0.
type Message struct {
	URL string
	// ID is the webhook-id, which is the same at each attempt: by it the
	// receiver knows a message that comes again.
	ID string
	// At is the time of the attempt, which is signed: receivers refuse old
	// ones.
	At   time.Time
	Body []byte
	// Secrets are those to sign with, as accounts have them.
	Secrets []string
}

// An Answer is what a receiver said. Nothing else of it is kept.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// RetryAfter is how long the receiver asks to be left alone, at most a day;
	// 0 if it doesn't ask.
	RetryAfter time.Duration
}

// maxBody is more than the body of any callback may have. Standard Webhooks
// asks for less than 20 kB.
const maxBody = 20_000

// maxRetryAfter bounds Answer.RetryAfter, so that no receiver puts off a
// message for ever.
const maxRetryAfter = 24 * time.Hour

// limits are those of one attempt. A receiver is a stranger: it may be slow on
// purpose, and send without end. Until the status has come only total counts,
// because a receiver may take all of that time for its work.
type limits struct {
	dial, handshake, body, total time.Duration
	headerBytes, bodyBytes       int64 // of the answer
}

// theLimits are those of every attempt.
//
//nolint:gochecknoglobals // a constant, in effect
var theLimits = limits{
	dial: 5 * time.Second, handshake: 5 * time.Second, body: time.Second, total: 15 * time.Second,
	headerBytes: 16 << 10, bodyBytes: 4 << 10,
}

// A Sender sends messages. It is safe for concurrent use.
type Sender struct {
	guard         *Guard
	limits        limits
	secure, plain *http.Client
}

// NewSender returns a sender that goes where its guard lets it.
func NewSender(guard *Guard) *Sender { return newSender(guard, theLimits, nil, nil) }

// newSender is NewSender with other limits, a DNS and a TLS configuration.
func newSender(guard *Guard, l limits, resolver *net.Resolver, config *tls.Config) *Sender {
	client := func(secure bool) *http.Client {
		return &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // the guard would see the proxy's address
				DialContext:            dialer{guard: guard, secure: secure, timeout: l.dial, resolver: resolver}.dial,
				TLSClientConfig:        config,
				TLSHandshakeTimeout:    l.handshake,
				MaxResponseHeaderBytes: l.headerBytes,
				DisableCompression:     true, // a small answer could become a large one
				DisableKeepAlives:      true, // each attempt looks at an address of its own
			},
			// Redirects are not followed: the answer itself is what counts.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Sender{guard: guard, limits: l, secure: client(true), plain: client(false)}
}

// Send makes one attempt, which carries the trace of ctx, and returns what the
// receiver answered, whatever its status. An error says that there was no
// answer; the receiver may have got the message all the same. It is an
// ErrRefused if the message may not go there. Errors are safe to be shown: they
// hold nothing that a receiver wrote, and no secret.
func (s *Sender) Send(ctx context.Context, m Message) (Answer, error) {
	if fault := s.guard.URLFault(m.URL); fault != "" {
		return Answer{}, fmt.Errorf("%w: %s", ErrRefused, fault)
	}
	if len(m.Body) >= maxBody {
		return Answer{}, fmt.Errorf("%w: the message has %d bytes", ErrRefused, len(m.Body))
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.total)
	defer cancel()
	request, err := newRequest(ctx, m)
	if err != nil {
		return Answer{}, err
	}
	client := s.secure
	if request.URL.Scheme == "http" {
		client = s.plain
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, plainError(err)
	}
	defer response.Body.Close() //nolint:errcheck // nobody reads on
	// The status has acknowledged the message, or not. A receiver may take it
	// amiss if nobody reads what it says, so a little is read.
	defer time.AfterFunc(s.limits.body, cancel).Stop()
	_, _ = io.CopyN(io.Discard, response.Body, s.limits.bodyBytes)
	return Answer{Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"), m.At)}, nil
}

// newRequest returns a message as a request.
func newRequest(ctx context.Context, m Message) (*http.Request, error) {
	signature, err := sign(m.ID, m.At, m.Body, m.Secrets)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: it is no URL", ErrRefused)
	}
	trace.ToHeader(ctx, request.Header)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "rocketrides")
	request.Header.Set("webhook-id", m.ID)
	request.Header.Set("webhook-timestamp", timestamp(m.At))
	request.Header.Set("webhook-signature", signature)
	return request, nil
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds,
// or a date, which is compared with now.
func retryAfter(field string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(field, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second //nolint:gosec // 32 bits of seconds fit
	} else if date, err := http.ParseTime(field); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// plainError returns what went wrong, in words of our own: an error of net/http
// repeats what the receiver sent.
func plainError(err error) error {
	var (
		dns     *net.DNSError
		op      *net.OpError
		invalid *tls.CertificateVerificationError
		asked   *url.Error
	)
	switch {
	case errors.Is(err, ErrRefused):
		if errors.As(err, &asked) {
			return asked.Err // without the URL
		}
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		return errors.New("the name of the host is unknown")
	case errors.As(err, &dns):
		return errors.New("the name of the host could not be resolved")
	case errors.As(err, &asked) && asked.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &op) && op.Op == "dial":
		return errors.New("no connection")
	case errors.As(err, &invalid):
		return errors.New("the certificate of the host is not valid")
	}
	return errors.New("the connection broke, or what came was not HTTP")
}
