package callbacks

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
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
	dns := newDNS(t, map[string][][]netip.Addr{"receiver.test": {{netip.MustParseAddr("127.0.0.1")}}})
	guard := NewGuard(netip.MustParsePrefix("10.0.0.0/8"))
	_, err := newSender(guard, shortLimits(), dns.resolver(), nil).Send(t.Context(), message("http://receiver.test:"+victim.port))
	if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "receiver.test") {
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
	for _, url := range []string{"https://unknown.example/", "http://unknown.test/"} {
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
