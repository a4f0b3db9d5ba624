package callbacks

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// loopback is what tests allow.
func loopback() *Guard { return NewGuard(netip.MustParsePrefix("127.0.0.0/8")) }

// A receiver gets what was sent to it, signed so that the reference library
// accepts it, over TLS and, where it is allowed, without.
func TestSendSignsWhatItSends(t *testing.T) {
	t.Parallel()
	type request struct {
		header http.Header
		body   []byte
		uri    string
	}
	got := make(chan request, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{header: r.Header, body: body, uri: r.Method + " " + r.RequestURI}
		w.WriteHeader(http.StatusAccepted)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	sender := newSender(loopback(), theLimits, nil, &tls.Config{RootCAs: roots})
	for _, server := range []string{plain.URL, secure.URL} {
		m := message(server + "/hook?a=b")
		answer, err := sender.Send(t.Context(), m)
		if err != nil || answer != (Answer{Status: http.StatusAccepted}) {
			t.Fatalf("%s: %+v, %v", server, answer, err)
		}
		r := <-got
		if string(r.body) != string(m.Body) || r.uri != "POST /hook?a=b" || r.header.Get("Content-Type") != "application/json" ||
			r.header.Get("webhook-id") != m.ID || r.header.Get("Cookie")+r.header.Get("Authorization")+r.header.Get("Accept-Encoding") != "" {
			t.Errorf("%s got %s %q with %v", server, r.uri, r.body, r.header)
		}
		if err := verify(aSecret, r.body, r.header); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
}

// A redirect is an answer like any other: nobody goes where it leads, not even
// when that is allowed (I25).
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	sender := NewSender(loopback())
	targets := []string{"http://127.0.0.1:" + victim.port + "/", "http://localhost:" + victim.port, "//127.0.0.1:" + victim.port, "/again"}
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		for _, target := range targets {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", target)
				w.WriteHeader(status)
			}))
			answer, err := sender.Send(t.Context(), message(server.URL))
			server.Close()
			if err != nil || answer.Status != status || requests.Load() != 1 {
				t.Errorf("%d to %s: %+v, %v, after %d requests", status, target, answer, err, requests.Load())
			}
		}
	}
	victim.checkUntouched(t)
}

// What a receiver does costs its own message at most the time limit, and little
// memory.
func TestReceiversReachLimits(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, test := range map[string]struct {
		serve func(w io.Writer) error
		want  string // the status, or the error
	}{
		"hangs":                    {func(io.Writer) error { return nil }, "no answer in time"},
		"stops in the header":      {func(w io.Writer) error { return write(w, ok+"A: ") }, "no answer in time"},
		"sends endless headers":    {func(w io.Writer) error { return flood(w, ok, "A: "+strings.Repeat("a", 1000)+"\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends one endless header": {func(w io.Writer) error { return flood(w, ok+"A: ", strings.Repeat("a", 1000)) }, "the connection broke, or what came was not HTTP"},
		"informs without end":      {func(w io.Writer) error { return flood(w, "", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends no HTTP":            {func(w io.Writer) error { return write(w, "220 secret.example ESMTP\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends an endless body":    {func(w io.Writer) error { return flood(w, ok+"\r\n", strings.Repeat("a", 1000)) }, "200"},
		"stops in the body":        {func(w io.Writer) error { return write(w, ok+"Content-Length: 9\r\n\r\na") }, "200"},
		"fails in the body":        {func(w io.Writer) error { return write(w, "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\na") }, "500"},
		"sends a broken gzip":      {func(w io.Writer) error { return write(w, ok+"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na") }, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, written := rawReceiver(t, test.serve)
			start := time.Now()
			answer, err := newSender(loopback(), shortLimits(), nil, nil).Send(t.Context(), message(url))
			got := strconv.Itoa(answer.Status)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if took := time.Since(start); took > shortLimits().total+time.Second {
				t.Errorf("it took %s", took)
			}
			// What the kernel buffers is written, but not read.
			if n := <-written; n > 16<<20 {
				t.Errorf("the receiver could send %d bytes", n)
			}
		})
	}
}

// rawReceiver accepts one connection, reads a request, and calls serve. What
// serve has written arrives when the connection has ended.
func rawReceiver(t *testing.T, serve func(io.Writer) error) (url string, written <-chan int64) {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	sum := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		defer conn.Close() //nolint:errcheck // it may be broken
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		w := &counter{Writer: conn}
		if serve(w) == nil {
			_, _ = io.Copy(io.Discard, conn) // until the sender hangs up
		}
		sum <- w.n
	}()
	return "http://" + listener.Addr().String(), sum
}

type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// flood writes without end.
func flood(w io.Writer, first, again string) error {
	err := write(w, first)
	for err == nil {
		err = write(w, again)
	}
	return err
}

// The limits are those that the README states.
func TestLimits(t *testing.T) {
	t.Parallel()
	want := limits{
		dial: 5 * time.Second, handshake: 5 * time.Second, header: 10 * time.Second, body: time.Second, total: 15 * time.Second,
		headerBytes: 16384, bodyBytes: 4096,
	}
	s := NewSender(NewGuard())
	if s.limits != want {
		t.Errorf("%+v", s.limits)
	}
	for _, client := range []*http.Client{s.secure, s.plain} {
		transport, ok := client.Transport.(*http.Transport)
		if !ok || transport.TLSHandshakeTimeout != want.handshake || transport.ResponseHeaderTimeout != want.header || transport.MaxResponseHeaderBytes != want.headerBytes {
			t.Errorf("%+v", client.Transport)
		}
	}
}

// A name of our own says what went wrong. It holds nothing of what the receiver
// wrote, so that nobody reads other people's answers by calling them.
func TestErrorsAreInOurWords(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	notTLS := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(notTLS.Close)
	nobody := listen(t, "127.0.0.1:0")
	_ = nobody.Close()
	dns := newDNS(t, nil)
	sender := newSender(loopback(), shortLimits(), dns.resolver(), nil)
	for url, want := range map[string]string{
		untrusted.URL: "the certificate of the host is not valid",
		strings.Replace(notTLS.URL, "http", "https", 1): "the connection broke, or what came was not HTTP",
		"http://" + nobody.Addr().String():              "no connection",
		"https://unknown.example/":                      "the name of the host is unknown",
		"https://10.0.0.1/":                             "not allowed: Must not name an address in a private or special network.",
	} {
		if _, err := sender.Send(t.Context(), message(url)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}

func TestLargeMessagesAreNotSent(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	m := message("http://127.0.0.1:" + victim.port)
	m.Body = make([]byte, 20_000)
	if _, err := NewSender(loopback()).Send(t.Context(), m); !errors.Is(err, ErrRefused) {
		t.Errorf("%v, want a refusal", err)
	}
	victim.checkUntouched(t)
}

// Without TLS a name leads only to addresses that are allowed.
func TestPlainHTTPGoesOnlyWhereItIsAllowed(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	dns := newDNS(t, map[string][][]netip.Addr{"receiver.example": {{netip.MustParseAddr("127.0.0.1")}}})
	guard := NewGuard(netip.MustParsePrefix("10.0.0.0/8"))
	_, err := newSender(guard, shortLimits(), dns.resolver(), nil).Send(t.Context(), message("http://receiver.example:"+victim.port))
	if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "receiver.example") {
		t.Errorf("%v, want a refusal without the URL", err)
	}
	victim.checkUntouched(t)
	public := netip.MustParseAddrPort("93.184.216.34:443")
	if guard.refuse(public, true) != nil || guard.refuse(public, false) == nil {
		t.Error("a public address is called without TLS, or not at all")
	}
}

// No proxy of the environment is used: the guard would look at the address of
// the proxy.
//
//nolint:paralleltest // it changes the environment
func TestNoProxyIsUsed(t *testing.T) {
	victim := newVictim(t)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://127.0.0.1:"+victim.port)
	}
	dns := newDNS(t, nil)
	sender := newSender(loopback(), shortLimits(), dns.resolver(), nil)
	for _, url := range []string{"https://unknown.example/", "http://unknown.example/"} {
		if _, err := sender.Send(t.Context(), message(url)); err == nil || !strings.Contains(err.Error(), "name of the host") {
			t.Errorf("%s: %v", url, err)
		}
	}
	victim.checkUntouched(t)
}

func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for field, want := range map[string]time.Duration{
		"":                                 0,
		"0":                                0,
		"120":                              2 * time.Minute,
		"86400":                            24 * time.Hour,
		"86401":                            24 * time.Hour,
		"4294967295":                       24 * time.Hour,
		"99999999999999999999":             0,
		"-5":                               0,
		"1.5":                              0,
		"soon":                             0,
		"Thu, 26 Nov 2026 12:01:00 GMT":    time.Minute,
		"Thu, 26 Nov 2026 11:59:00 GMT":    0,
		"Thursday, 26-Nov-26 12:02:00 GMT": 2 * time.Minute,
		"Fri, 26 Nov 2027 12:00:00 GMT":    24 * time.Hour,
		"Fri, 26 Nov 9999 12:00:00 GMT":    24 * time.Hour,
		"120, 60":                          0,
		" 120":                             0,
	} {
		if got := retryAfter(field, now); got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
}
