package payments

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestRequestCarriesOnlyWhatTheAPIWants(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := server.client(t, nil)
	for range 2 { // stripe-go sends telemetry about the previous request
		if _, err := client.Charge(t.Context(), firstSend()); err != nil {
			t.Fatalf("charging: %v", err)
		}
	}
	for _, request := range server.received(routeCreate) {
		for name, want := range map[string]string{
			"Authorization": "Bearer " + testKey, "Content-Type": "application/x-www-form-urlencoded",
			"Stripe-Version": "2023-10-16", "Idempotency-Key": testTerms().Operation, "X-Stripe-Client-Telemetry": "",
			"Accept-Encoding": "",
		} {
			wantEqual(t, name, want, strings.Join(request.header.Values(name), ", "))
		}
		wantEqual(t, "query", "", request.query)
	}
}

// Retries are the engine's, which holds a lease and counts them.
func TestChargeIsSentOnceWhateverTheAnswer(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"a 409 that asks for a retry":    answerError(409, "invalid_request_error", "idempotency_key_in_use", nil, "Stripe-Should-Retry", "true"),
		"a 429 that asks for a retry":    answerError(429, "invalid_request_error", "lock_timeout", nil, "Stripe-Should-Retry", "true"),
		"a 500 that asks for a retry":    answerError(500, "api_error", "", nil, "Stripe-Should-Retry", "true"),
		"a 503":                          answerError(503, "api_error", "", nil),
		"a connection that breaks":       answerCut("", hangUp),
		"a redirect that keeps the POST": answerWith(307, "", "Location", "/v1/payment_intents"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, chargeOnly(handler))
			client, _ := server.client(t, nil)
			if charge, err := client.Charge(t.Context(), firstSend()); err == nil {
				t.Errorf("got %+v, want an error", charge)
			}
			wantEqual(t, "sends", 1, len(server.received(routeCreate)))
		})
	}
}

// net/http sends a POST with an Idempotency-Key again on its own if the
// connection was used before. See Request.isReplayable.
func TestBrokenReusedConnectionCausesNoSecondSend(t *testing.T) {
	t.Parallel()
	var addresses []string
	remember := func(handler http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			addresses = append(addresses, r.RemoteAddr) // the requests come one after another
			handler(w, r)
		}
	}
	server := newStripeServer(t, map[string][]http.HandlerFunc{
		routeList:   {remember(answerPage(false))},
		routeCreate: {remember(answerCut("", hangUp))},
	})
	client, _ := server.client(t, nil)
	if _, err := client.FindCharge(t.Context(), firstSend(), customers()); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("opening a connection: %v", err)
	}
	_, err := client.Charge(t.Context(), firstSend())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Unknown {
		t.Errorf("got %v, want an unknown result", err)
	}
	wantEqual(t, "sends", 1, len(server.received(routeCreate)))
	if len(addresses) != 2 || addresses[0] != addresses[1] {
		t.Errorf("the requests came from %v, so no connection was used again", addresses)
	}
}

// Without a key, stripe-go makes up one of its own, another one for each
// attempt.
func TestPostWithoutItsIdempotencyKeyIsNeverSent(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, nil)
	client, _ := server.client(t, nil)
	values := new(form.Values)
	post := func(key string) request { return request{callCharge, http.MethodPost, intentsPath, key, ""} }
	if err := client.backend.CallRaw(http.MethodPost, intentsPath, client.key, values, nil, new(stripe.PaymentIntent)); !errors.Is(err, errSentByItself) {
		t.Errorf("stripe-go on its own: got %v, want a refusal", err)
	}
	for name, send := range map[string]func() error{
		"an empty key": func() error {
			return client.roundTrip(t.Context(), post(""), new(stripe.PaymentIntent)).err
		},
		"a blank key": func() error {
			return client.roundTrip(t.Context(), post(" "), new(stripe.PaymentIntent)).err
		},
		"a key that stripe-go trims": func() error {
			return client.roundTrip(t.Context(), post(" x"), new(stripe.PaymentIntent)).err
		},
	} {
		if err := send(); !errors.Is(err, errKeyMissing) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	// A key that no header can carry fails before the transport.
	for name, key := range map[string]string{"a key of two lines": "x\ny", "a key that is too long": strings.Repeat("x", 256)} {
		o := client.roundTrip(t.Context(), post(key), new(stripe.PaymentIntent))
		if o.fault == faultNone {
			t.Errorf("%s was answered: %+v", name, o)
		}
	}
}

func TestCallEndsAtTheShorterDeadline(t *testing.T) {
	t.Parallel()
	long, short := time.Hour, 50*time.Millisecond
	for name, c := range map[string]struct{ caller, timeout time.Duration }{
		"the caller's": {short, long},
		"its own":      {long, short},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeCreate: {answerNever}, routeList: {answerNever}})
			client, _ := server.client(t, func(config *Config) { config.Timeout = c.timeout })
			ctx, cancel := context.WithTimeout(t.Context(), c.caller)
			defer cancel()
			_, charged := client.Charge(ctx, firstSend())
			_, found := client.FindCharge(ctx, firstSend(), customers())
			for _, err := range []error{charged, found, client.VerifyNotCharged(ctx, firstSend().Key, firstSend().Form, time.Time{}, nil)} {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want a deadline", err)
				}
			}
		})
	}
}

func TestErrorsQuoteOnlyWords(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, chargeOnly(
		answerError(503, "api_error", "", nil),
		answerCut("{\"secret\": \""+testKey+"\"}\r\n\r\n", hangUp),
		answerCut("", resetConn),
		answerCut("", hangUp),
		answerWith(200, "{\"secret\": \""+testKey),
		answerWith(429, encodeObject(object{"error": object{
			"type": "invalid_request_error", "code": "{\"secret\":1}", "param": "<secret>", "message": testKey,
		}})),
	))
	client, _ := server.client(t, nil)
	for _, want := range []string{
		"Stripe (charge) answered 503, type api_error, request req_1",
		"asking Stripe (charge): the connection broke",
		"asking Stripe (charge): connection reset by peer",
		"asking Stripe (charge): the connection ended before the answer did",
		"Stripe (charge) answered 200, with something that is not Stripe's answer to this request, request req_1",
		"Stripe (charge) answered 429, type invalid_request_error, code (unreadable), parameter (unreadable), request req_1",
	} {
		_, err := client.Charge(t.Context(), firstSend())
		wantEqual(t, "error", want, err.Error())
		wantNoSecrets(t, err.Error())
	}
}

func TestOwnTransportSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	var proto atomic.Int32
	server := unstartedStripeServer(t, chargeOnly(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(int32(r.ProtoMajor))
		answerOK(intentWith(nil))(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	transport := newTransport()
	transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // httptest documents it
	client, _ := server.client(t, func(c *Config) { c.Transport = transport })
	if _, err := client.Charge(t.Context(), firstSend()); err != nil {
		t.Fatalf("charging: %v", err)
	}
	wantEqual(t, "protocol", int32(1), proto.Load())
	wantEqual(t, "lowest TLS version", uint16(tls.VersionTLS12), transport.TLSClientConfig.MinVersion)
}

// A transport of a test, or one that wraps another, may not report to
// httptrace. Then there is no proof that nothing was sent.
func TestTransportWithoutTraceMayHaveSent(t *testing.T) {
	t.Parallel()
	mute := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("no") })
	server := newStripeServer(t, nil)
	client, registry := server.client(t, func(c *Config) { c.Transport = mute })
	if charge, err := client.Charge(t.Context(), firstSend()); err == nil {
		t.Errorf("got %+v, want an error", charge)
	}
	wantEqual(t, "rows", []string{"charge/lost"}, judgments(t, registry))
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestStripeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := server.client(t, nil)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if charge, err := client.Charge(t.Context(), firstSend()); err != nil || charge.Status != ChargeSucceeded {
				t.Errorf("got %+v, %v", charge, err)
			}
		})
	}
	all.Wait()
	keys := map[string]bool{}
	for _, request := range server.received(routeCreate) {
		keys[request.header.Get("Idempotency-Key")] = true
	}
	wantEqual(t, "keys", 1, len(keys))
	wantEqual(t, "sends", 32, len(server.received(routeCreate)))
	if slices.ContainsFunc(server.received(routeCreate), func(r receivedRequest) bool { return r.body != string(firstSend().Form) }) {
		t.Error("a body differs from the form")
	}
}
