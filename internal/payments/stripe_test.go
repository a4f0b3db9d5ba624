package payments

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestStripeSendsWhatTheAPIWantsAndNothingElse(t *testing.T) {
	t.Parallel()
	stage := newStage(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := stage.client(t, nil)
	for range 2 { // telemetry would be about the request before
		if _, err := client.Charge(t.Context(), stageSent()); err != nil {
			t.Fatalf("charging: %v", err)
		}
	}
	for _, request := range stage.seen(routeCreate) {
		for name, want := range map[string]string{
			"Authorization": "Bearer " + stageKey, "Content-Type": "application/x-www-form-urlencoded",
			"Stripe-Version": "2023-10-16", "Idempotency-Key": stageTerms().Operation, "X-Stripe-Client-Telemetry": "",
		} {
			wantEqual(t, name, want, strings.Join(request.header.Values(name), ", "))
		}
		wantEqual(t, "query", "", request.query)
	}
}

// Further tries belong to the engine, which holds a lease and counts them.
func TestStripeSendsOnceWhateverTheAnswerSays(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"a 409 that asks for a retry":    answerProblem(409, "invalid_request_error", "idempotency_key_in_use", nil, "Stripe-Should-Retry", "true"),
		"a 429 that asks for a retry":    answerProblem(429, "invalid_request_error", "lock_timeout", nil, "Stripe-Should-Retry", "true"),
		"a 500 that asks for a retry":    answerProblem(500, "api_error", "", nil, "Stripe-Should-Retry", "true"),
		"a 503":                          answerProblem(503, "api_error", "", nil),
		"a connection that breaks":       answerCut("", hangUp),
		"a redirect that keeps the POST": answerWith(307, "", "Location", "/v1/payment_intents"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, chargeOnly(handler))
			client, _ := stage.client(t, nil)
			if charge, err := client.Charge(t.Context(), stageSent()); err == nil {
				t.Errorf("got %+v, want an error", charge)
			}
			wantEqual(t, "sends", 1, len(stage.seen(routeCreate)))
		})
	}
}

// net/http sends a POST with an Idempotency-Key again by itself, when the
// connection was used before. See Request.isReplayable.
func TestStripeReusedConnectionThatBreaksCarriesNoSecondSend(t *testing.T) {
	t.Parallel()
	var addresses []string
	remember := func(handler http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			addresses = append(addresses, r.RemoteAddr) // the requests come one after the other
			handler(w, r)
		}
	}
	stage := newStage(t, map[string][]http.HandlerFunc{
		routeList:   {remember(answerPage(false))},
		routeCreate: {remember(answerCut("", hangUp))},
	})
	client, _ := stage.client(t, nil)
	if _, err := client.FindCharge(t.Context(), stageSent()); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("opening a connection: %v", err)
	}
	_, err := client.Charge(t.Context(), stageSent())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Unknown {
		t.Errorf("got %v, want an unknown result", err)
	}
	wantEqual(t, "sends", 1, len(stage.seen(routeCreate)))
	if len(addresses) != 2 || addresses[0] != addresses[1] {
		t.Errorf("the requests came from %v, so no connection was used again", addresses)
	}
}

// stripe-go makes a key up where there is none: another one for each try.
func TestStripeNeverSendsAPostWithoutTheKeyOfItsForm(t *testing.T) {
	t.Parallel()
	stage := newStage(t, nil)
	client, _ := stage.client(t, nil)
	values := new(form.Values)
	for name, send := range map[string]func() error{
		"stripe-go by itself": func() error {
			return client.backend.CallRaw(http.MethodPost, intentsPath, client.key, values, &stripe.Params{Context: t.Context()}, new(stripe.PaymentIntent))
		},
		"stripe-go without parameters": func() error {
			return client.backend.CallRaw(http.MethodPost, intentsPath, client.key, values, nil, new(stripe.PaymentIntent))
		},
		"an empty key": func() error {
			return client.send(t.Context(), stripeRequest{http.MethodPost, intentsPath, "", values}, new(stripe.PaymentIntent)).err
		},
		"a blank key": func() error {
			return client.send(t.Context(), stripeRequest{http.MethodPost, intentsPath, " ", values}, new(stripe.PaymentIntent)).err
		},
		"a key that stripe-go trims": func() error {
			return client.send(t.Context(), stripeRequest{http.MethodPost, intentsPath, " x", values}, new(stripe.PaymentIntent)).err
		},
	} {
		if err := send(); !errors.Is(err, errStripeKeyMissing) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	// A key that no header can carry never gets as far as that.
	for name, key := range map[string]string{"a key of two lines": "x\ny", "an endless key": strings.Repeat("x", 256)} {
		o := client.send(t.Context(), stripeRequest{http.MethodPost, intentsPath, key, values}, new(stripe.PaymentIntent))
		if o.fault == faultNone {
			t.Errorf("%s was answered: %+v", name, o)
		}
	}
}

func TestStripeAnswersWithinTheShorterDeadline(t *testing.T) {
	t.Parallel()
	long, short := time.Hour, 50*time.Millisecond
	for name, c := range map[string]struct{ caller, timeout time.Duration }{
		"the caller's": {short, long},
		"its own":      {long, short},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, map[string][]http.HandlerFunc{routeCreate: {answerNever}, routeList: {answerNever}})
			client, _ := stage.client(t, func(config *Config) { config.Timeout = c.timeout })
			ctx, cancel := context.WithTimeout(t.Context(), c.caller)
			defer cancel()
			_, charged := client.Charge(ctx, stageSent())
			_, found := client.FindCharge(ctx, stageSent())
			for _, err := range []error{charged, found, client.VerifyNotCharged(ctx, stageSent().Form, time.Time{})} {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want a deadline", err)
				}
			}
		})
	}
}

func TestStripeErrorsAreWords(t *testing.T) {
	t.Parallel()
	stage := newStage(t, chargeOnly(
		answerProblem(503, "api_error", "", nil),
		answerCut("{\"secret\": \""+stageKey+"\"}\r\n\r\n", hangUp),
		answerCut("", resetConn),
		answerCut("", hangUp),
		answerWith(200, "{\"secret\": \""+stageKey),
		answerWith(429, encodeObject(stripeObject{"error": stripeObject{
			"type": "invalid_request_error", "code": "{\"secret\":1}", "param": "<secret>", "message": stageKey,
		}})),
	))
	client, _ := stage.client(t, nil)
	for _, want := range []string{
		"Stripe (charge) answered 503, type api_error, request req_1",
		"asking Stripe (charge): the connection broke",
		"asking Stripe (charge): connection reset by peer",
		"asking Stripe (charge): the connection ended before the answer did",
		"Stripe (charge) answered 200, request req_1",
		"Stripe (charge) answered 429, type invalid_request_error, code (unreadable), parameter (unreadable), request req_1",
	} {
		_, err := client.Charge(t.Context(), stageSent())
		wantEqual(t, "error", want, err.Error())
		wantNoSecrets(t, err.Error())
	}
}

func TestStripeRefusedKeyStopsEverythingUntilItWorks(t *testing.T) {
	t.Parallel()
	var repaired atomic.Bool
	refusing := func(w http.ResponseWriter, r *http.Request) {
		if repaired.Load() {
			answerOK(intentWith(nil))(w, r)
			return
		}
		answerProblem(401, "invalid_request_error", "", nil)(w, r)
	}
	stage := newStage(t, chargeOnly(refusing))
	var log bytes.Buffer
	client, registry := stage.client(t, func(c *Config) {
		c.RefusedPause = 200 * time.Millisecond
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 20 {
		_, err := client.Charge(t.Context(), stageSent())
		var failed *phases.CallError
		if !errors.As(err, &failed) || failed.Class != phases.Transient {
			t.Fatalf("got %v, want a transient failure", err)
		}
	}
	if sends := len(stage.seen(routeCreate)); sends > 2 { // 2, where the machine stood still for 200 ms
		t.Errorf("%d of 20 charges were sent with a refused key", sends)
	}
	wantEqual(t, "gauge", 1.0, gauge(t, registry))
	if !strings.Contains(log.String(), "Stripe refuses our API key") {
		t.Errorf("the log says nothing of the key: %s", log.String())
	}
	wantNoSecrets(t, log.String())

	repaired.Store(true)
	eventually(t, "a charge after the repair", func() bool {
		charge, err := client.Charge(t.Context(), stageSent())
		return err == nil && charge.Status == ChargeSucceeded
	})
	wantEqual(t, "gauge", 0.0, gauge(t, registry))
}

// When the pause is over, one request finds out. A broken connection finds
// nothing out.
func TestStripeAfterARefusedKeyOneRequestGoesFirst(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	hold := func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		answerProblem(403, "invalid_request_error", "", nil)(w, r)
	}
	stage := newStage(t, chargeOnly(answerProblem(401, "invalid_request_error", "", nil), answerCut("", hangUp), hold))
	client, registry := stage.client(t, func(c *Config) { c.RefusedPause = 20 * time.Millisecond })
	eventually(t, "a request after the pause", func() bool {
		_, _ = client.Charge(t.Context(), stageSent())
		return len(stage.seen(routeCreate)) == 2
	})
	var done sync.WaitGroup
	done.Go(func() { _, _ = client.Charge(t.Context(), stageSent()) })
	<-arrived
	for range 20 {
		if _, err := client.Charge(t.Context(), stageSent()); err == nil {
			t.Error("a charge succeeded")
		}
	}
	wantEqual(t, "sends while one finds out", 3, len(stage.seen(routeCreate)))
	close(release)
	done.Wait()
	wantEqual(t, "gauge", 1.0, gauge(t, registry))
}

func gauge(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatalf("reading the metrics: %v", err)
	}
	for _, family := range families {
		if family.GetName() == "rides_stripe_key_refused" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no gauge")
	return 0
}

// eventually fails the test where a condition doesn't come true within ten
// seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func TestStripeConfigIsRefusedWhereItIsUnsafe(t *testing.T) {
	t.Parallel()
	const live = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // empty: accepted
	}{
		"a test key":                       {func(*Config) {}, ""},
		"a restricted test key":            {func(c *Config) { c.Key = "rk_test_1" }, ""},
		"a test key for another URL":       {func(c *Config) { c.URL = "http://127.0.0.1:12111" }, ""},
		"a live key":                       {func(c *Config) { c.Key = live }, ""},
		"a live key for Stripe's own URL":  {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com/" }, ""},
		"a live key for another URL":       {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com.example.org" }, "live Stripe key"},
		"a live key without TLS":           {func(c *Config) { c.Key, c.URL = live, "http://api.stripe.com" }, "live Stripe key"},
		"a live key for another port":      {func(c *Config) { c.Key, c.URL = live, "https://api.stripe.com:8443" }, "live Stripe key"},
		"a restricted live key for a fake": {func(c *Config) { c.Key, c.URL = "rk_live_1", "http://127.0.0.1:1" }, "live Stripe key"},
		"no key":                           {func(c *Config) { c.Key = "" }, "secret or restricted"},
		"a publishable key":                {func(c *Config) { c.Key = "pk_test_1" }, "secret or restricted"},
		"a mere prefix":                    {func(c *Config) { c.Key = "sk_test_" }, "secret or restricted"},
		"a key with a line's end":          {func(c *Config) { c.Key = "sk_test_1\n" }, "secret or restricted"},
		"no time-out":                      {func(c *Config) { c.Timeout = 0 }, "time-out"},
		"a URL with a password":            {func(c *Config) { c.URL = "http://a:dontshow@127.0.0.1" }, "plain http"},
		"a URL with a query":               {func(c *Config) { c.URL = "http://127.0.0.1/?dontshow" }, "plain http"},
		"a URL without a scheme":           {func(c *Config) { c.URL = "127.0.0.1:80" }, "plain http"},
		"a URL of another kind":            {func(c *Config) { c.URL = "ftp://127.0.0.1" }, "plain http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := Config{Key: stageKey, Timeout: time.Second}
			c.change(&config)
			client, err := NewStripe(config)
			if c.want == "" {
				if err != nil {
					t.Fatalf("got %v, want a client", err)
				}
				wantEqual(t, "live", strings.Contains(config.Key, "_live_"), client.Live())
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error about %q", err, c.want)
			}
			if strings.Contains(err.Error(), "4eC39H") || strings.Contains(err.Error(), "dontshow") {
				t.Errorf("the error gives a secret away: %v", err)
			}
		})
	}
}

func TestStripeMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	config := Config{Key: stageKey, Timeout: time.Second, Metrics: registry}
	if _, err := NewStripe(config); err != nil {
		t.Fatalf("making the first client: %v", err)
	}
	if _, err := NewStripe(config); err == nil {
		t.Error("a second client shares the registry unnoticed")
	}
}

func TestStripeOwnTransportSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	var proto atomic.Int32
	stage := stageFor(t, chargeOnly(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(int32(r.ProtoMajor))
		answerOK(intentWith(nil))(w, r)
	}))
	stage.EnableHTTP2 = true
	stage.StartTLS()
	transport := newTransport(time.Second)
	transport.TLSClientConfig.RootCAs = stage.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // httptest documents it
	client, _ := stage.client(t, func(c *Config) { c.Transport = transport })
	if _, err := client.Charge(t.Context(), stageSent()); err != nil {
		t.Fatalf("charging: %v", err)
	}
	wantEqual(t, "protocol", int32(1), proto.Load())
	wantEqual(t, "least TLS", uint16(tls.VersionTLS12), transport.TLSClientConfig.MinVersion)
}

// A transport of a test, or one that stands in front of another, may not report
// to httptrace. Then nothing proves that nothing was sent.
func TestStripeTransportThatReportsNothingMayHaveSent(t *testing.T) {
	t.Parallel()
	mute := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no") })
	stage := newStage(t, nil)
	client, registry := stage.client(t, func(c *Config) { c.Transport = mute })
	if charge, err := client.Charge(t.Context(), stageSent()); err == nil {
		t.Errorf("got %+v, want an error", charge)
	}
	wantEqual(t, "rows", []string{"charge/lost"}, judgments(t, registry))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestStripeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	stage := newStage(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := stage.client(t, nil)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if charge, err := client.Charge(t.Context(), stageSent()); err != nil || charge.Status != ChargeSucceeded {
				t.Errorf("got %+v, %v", charge, err)
			}
		})
	}
	all.Wait()
	keys := map[string]bool{}
	for _, request := range stage.seen(routeCreate) {
		keys[request.header.Get("Idempotency-Key")] = true
	}
	wantEqual(t, "keys", 1, len(keys))
	wantEqual(t, "sends", 32, len(stage.seen(routeCreate)))
	if slices.ContainsFunc(stage.seen(routeCreate), func(r stageRequest) bool { return r.body != string(stageSent().Form) }) {
		t.Error("a body differs from the form")
	}
}
