package payments

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	// idleTimeout is short: a request on a connection that Stripe is just
	// closing fails, and costs an attempt.
	idleTimeout = 30 * time.Second
	idleConns   = 64
	headerLimit = 64 << 10 // bytes
	// writeBuffer and readBuffer are those of each connection, of which there are
	// as many as calls at once. A charge's request fits in. An answer that
	// doesn't is read in several turns.
	writeBuffer = 1536 // bytes
	readBuffer  = 1 << 10
)

// newTransport returns the transport to Stripe's servers. It speaks HTTP/1.1
// only, because HTTP/2 sends requests again on its own. It takes a proxy from
// the environment (HTTPS_PROXY, NO_PROXY), because many networks let nothing
// out without one. TLS is end to end, so the proxy doesn't see the API key.
// It follows no redirects. Each request ends with its context. Answers aren't
// compressed: most are so short that they cost more to unpack than to carry.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: idleTimeout}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		DisableCompression:     true,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    idleConns,
		ReadBufferSize:         readBuffer,
		WriteBufferSize:        writeBuffer,
		MaxResponseHeaderBytes: headerLimit,
		Protocols:              &protocols,
	}
}

// proxy returns the environment's proxy. Its error doesn't quote the proxy's
// address, which may hold a password.
func proxy(req *http.Request) (*url.URL, error) {
	address, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, errors.New("the proxy in the environment isn't a URL")
	}
	return address, nil
}
