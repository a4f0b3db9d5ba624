package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// defaultTimeout bounds one request. It is longer than the service may take to
// charge a card, and than it lets a client wait.
const defaultTimeout = time.Minute

// Config says which API a [Client] calls, and how.
type Config struct {
	// URL is the address of the API, such as https://rides.example.com.
	// Required.
	URL string
	// APIKey is the secret rr_test_… or rr_live_… of the account. Required.
	APIKey string
	// Transport sends the requests, each retry too. nil means one of the
	// client's own, with time-outs and the proxy of the environment. One that
	// is given here may add headers to a copy of the request, as
	// http.RoundTripper demands.
	Transport http.RoundTripper
	// Timeout bounds one request and its answer, not the whole call: that is
	// what contexts are for. 0 means a minute, which is longer than the service
	// takes to charge a card.
	Timeout time.Duration
	// Retry says when a request is sent again. The zero value is good.
	Retry Retry
}

// A Client calls the API. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	http      *http.Client
	authorize func(http.Header) // not a field with the key, which a log of the client would show
	timeout   time.Duration
	retry     Retry
	// pause waits; tests replace it.
	pause func(context.Context, time.Duration) error
}

// New returns a client. The error says what is wrong with the configuration;
// nothing is sent.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		// The error of url.Parse would show a password.
		return nil, errors.New("client: Config.URL must be the http or https address of the API, without anything after the path")
	}
	if config.APIKey == "" || strings.ContainsFunc(config.APIKey, func(char rune) bool { return char <= ' ' || char > '~' }) {
		return nil, errors.New("client: Config.APIKey must be an API key, without blanks or line ends")
	}
	if config.Timeout < 0 {
		return nil, errors.New("client: Config.Timeout must not be negative")
	}
	retry, err := config.Retry.withDefaults()
	if err != nil {
		return nil, err
	}
	if config.Transport == nil {
		config.Transport = newTransport()
	}
	return &Client{
		base: base,
		http: &http.Client{
			Transport: config.Transport,
			// A redirect would take the API key to an address that nobody
			// chose.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		authorize: func(header http.Header) { header.Set("Authorization", "Bearer "+config.APIKey) },
		timeout:   cmp.Or(config.Timeout, defaultTimeout),
		retry:     retry,
		pause:     pause,
	}, nil
}

// newTransport returns a transport whose every step has a time-out.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second, // shorter than the server's, so that the server seldom closes first
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// pause waits for d, or until ctx ends, and then returns the cause of its end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting to send again: %w", context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}
