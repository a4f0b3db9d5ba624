package payments

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func servedWire() []servedCase {
	lost := func(name string, handler http.HandlerFunc, change func(*Config)) servedCase {
		return servedCase{name: name, row: "charge/lost", answers: chargeOnly(handler), change: change, class: phases.Unknown}
	}
	unsent := func(name string, change func(*Config)) servedCase {
		return servedCase{name: name, row: "charge/unsent", change: change, class: phases.Transient}
	}
	unreadable := func(name string, handler http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "charge/unreadable", answers: chargeOnly(handler), class: phases.Unknown}
	}
	saved := func(name string, handler http.HandlerFunc) servedCase {
		return servedCase{
			name: name, row: "charge/unreadable_saved", answers: chargeOnly(handler), class: phases.LookUp, reason: "stripe_unexpected",
		}
	}
	suspect := Charge{Status: ChargeSuspect, Reason: "stripe_form"}
	const half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"id\":\"pi_1\""
	return []servedCase{
		lost("the connection ends without an answer", answerCut("", hangUp), nil),
		lost("the connection is reset after the request was read", answerCut("", resetConn), nil),
		lost("the answer ends in its body", answerCut(half, hangUp), nil),
		lost("the answer ends in its header", answerCut("HTTP/1.1 200 OK\r\nContent-Ty", hangUp), nil),
		lost("the answer isn't HTTP", answerCut("{\"secret\":\"sk_test_x\"}\r\n\r\n", hangUp), nil),
		lost("there is no answer in time", answerNever, patientTimeout),
		lost("the answer is still coming at the deadline", answerSlowly, patientTimeout),
		lost("the answer is too long", answerWith(200, strings.Repeat(" ", answerLimit+1)), nil),
		lost("a 402 ends in its body", answerCut(strings.Replace(half, "200 OK", "402 Payment Required", 1), hangUp), nil),
		unsent("nobody listens", func(c *Config) { c.URL = "http://" + closedAddress() }),
		unsent("the name of the server doesn't resolve", func(c *Config) {
			transport := newTransport()
			transport.Proxy = nil // it would resolve the name itself
			c.URL, c.Transport = "http://stripe.invalid", transport
		}),
		unsent("the server speaks no TLS", func(c *Config) { c.URL = strings.Replace(c.URL, "http:", "https:", 1) }),
		unsent("the deadline passes before the dial", func(c *Config) { c.Timeout = time.Nanosecond }),
		unsent("the dial is not answered in time", func(c *Config) {
			c.Timeout = 100 * time.Millisecond
			c.Transport = &http.Transport{DialContext: dialNowhere}
		}),
		unreadable("an HTML 502", answerWith(502, "<html>bad gateway</html>", "Content-Type", "text/html")),
		unreadable("an HTML 200", answerWith(200, "<html>welcome</html>")),
		unreadable("an HTML 401", answerWith(401, "<html>log in to the hotel's network</html>")),
		unreadable("an empty 200", answerWith(200, "")),
		unreadable("a 200 with {}", answerWith(200, "{}")),
		unreadable("a 200 with null", answerWith(200, "null")),
		unreadable("a 200 with broken JSON", answerWith(200, `{"id":"pi_1","object":"payment_intent","status":"succeeded"`)),
		unreadable("a 200 with only an id", answerWith(200, `"pi_1"`)),
		unreadable("a 200 with another kind of object", answerOK(intentWith(object{"object": "charge"}))),
		unreadable("a 200 without an id", answerOK(intentWith(object{"id": ""}))),
		unreadable("a 201", answerWith(201, encodeObject(intentWith(nil)))),
		unreadable("a 204", answerWith(204, "")),
		unreadable("a replayed 502 in HTML", answerWith(502, "<html>bad gateway</html>", "Idempotent-Replayed", "true")),
		saved("a replayed 200 with another kind of object", answerOK(intentWith(object{"object": "charge"}), "Idempotent-Replayed", "true")),
		unreadable("a replayed 200 that is empty", answerWith(200, "", "Idempotent-Replayed", "true")),
		unreadable("a replayed 200 in HTML", answerWith(200, "<html>welcome</html>", "Idempotent-Replayed", "true")),
		unreadable("a redirect", answerWith(307, "", "Location", "/v1/other")),
		unreadable("a redirect to a broken address", answerWith(302, "", "Location", "http://[::1")),
		unreadable("a 400 without Stripe's error", answerWith(400, `{"message":"no"}`)),
		unreadable("a 402 without a type", answerWith(402, `{"error":{"message":"no"}}`)),
		unreadable("a 500 that is empty", answerWith(500, "")),
		{
			name: "Stripe has just refused our key", row: "charge/paused", also: []string{"charge/key_refused", "account/account_refused"},
			answers: withAccount(chargeOnly(answerUnauthorized()), answerUnauthorized()), class: phases.Transient,
			before: func(t *testing.T, s *Stripe) {
				t.Helper()
				if _, err := s.Charge(t.Context(), firstSend()); err == nil {
					t.Error("the first charge succeeded")
				}
			},
		},
		{
			name: "our key must not be used", row: "charge/paused", class: phases.Transient,
			before: func(_ *testing.T, s *Stripe) { s.Refuse("the key belongs to another account") },
		},
		{
			name: "the frozen form isn't form-encoded", row: "charge/form_changed", want: suspect,
			sent: func(s *phases.Sent[ChargeForm]) { s.Form += "&x=%zz" },
		},
		{
			name: "the frozen form belongs to another key", row: "charge/form_changed", want: suspect,
			sent: func(s *phases.Sent[ChargeForm]) { s.Key += "0" },
		},
		// The list would show what the other key has charged.
		{
			name: "the frozen form belongs to another key, and is looked up", row: "charge/form_changed", want: suspect, find: true,
			sent: func(s *phases.Sent[ChargeForm]) { s.Key += "0" },
		},
		{
			name: "the frozen form isn't form-encoded, and its intent is known", row: "charge/form_changed", want: suspect, find: true,
			sent: func(s *phases.Sent[ChargeForm]) { s.Form, s.Ref = s.Form+"&x=%zz", "pi_1" },
		},
	}
}

// closedAddress returns a loopback address on which nobody listens.
func closedAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		panic(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// dialNowhere dials until ctx ends.
func dialNowhere(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// When this server breaks TLS the handshake is over, so it may have read the
// request.
func TestTLSErrorAfterTheRequestIsUnknown(t *testing.T) {
	t.Parallel()
	server := unstartedStripeServer(t, chargeOnly(answerCut("", func(conn net.Conn) {
		if secure, isTLS := conn.(*tls.Conn); isTLS {
			_, _ = secure.NetConn().Write([]byte("this is not a TLS record, so the connection is unusable from here on"))
		}
		_ = conn.Close()
	})))
	server.StartTLS()
	client, registry := server.client(t, func(c *Config) { c.Transport = server.Client().Transport })
	_, err := client.Charge(t.Context(), firstSend())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Unknown {
		t.Errorf("got %v, want an unknown result", err)
	}
	wantEqual(t, "rows", []string{"charge/lost"}, judgments(t, registry))
	wantEqual(t, "sends", 1, len(server.received(routeCreate)))
}

// If the server's certificate is refused, the request is not sent.
func TestUntrustedCertificateIsTransient(t *testing.T) {
	t.Parallel()
	server := unstartedStripeServer(t, nil)
	server.StartTLS()
	client, registry := server.client(t, nil)
	_, err := client.Charge(t.Context(), firstSend())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Transient {
		t.Errorf("got %v, want a transient failure", err)
	}
	wantEqual(t, "rows", []string{"charge/unsent"}, judgments(t, registry))
}
