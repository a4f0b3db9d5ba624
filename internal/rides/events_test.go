package rides

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// signed returns a request with an event, as Stripe's own library signs it.
func signed(body, secret string, at time.Time) call {
	payload := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at})
	return call{
		method: http.MethodPost, path: "/v1/stripe/events", body: body,
		header: http.Header{"Stripe-Signature": {payload.Header}},
	}
}

// event returns a snapshot event about an object.
func event(id, kind, object string) string {
	return fmt.Sprintf(`{"id":%q,"object":"event","api_version":"2031-01-01","created":1700000000,"livemode":false,"type":%q,"data":{"object":{"id":%q}}}`, id, kind, object)
}

// events counts the rows of the inbox.
func events(t *testing.T, h *harness) int {
	t.Helper()
	return number(t, h, `SELECT count(*) FROM stripe_events`)
}

func TestAnEventIsStoredBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	body := event("evt_1", "charge.refunded", "ch_1")
	for n := 1; n <= 3; n++ {
		answered := h.send(t, signed(body, eventSecret, time.Now())).must(t, 200, "")
		if answered.body != "{\"received\":true}\n" {
			t.Errorf("the body is %s", answered.body)
		}
		if got := number(t, h, `SELECT deliveries FROM stripe_events
			WHERE account_id = '' AND id = 'evt_1' AND type = 'charge.refunded' AND object = 'charge' AND object_id = 'ch_1'
			  AND NOT livemode AND created_at = to_timestamp(1700000000) AND worked_at IS NULL`); got != n {
			t.Errorf("after %d deliveries the event has %d", n, got)
		}
	}
	// The former secret signs until it is removed, and a thin event is another
	// event.
	thin := `{"id":"evt_2","object":"v2.core.event","created":"2023-11-14T22:13:20Z","livemode":false,"context":"` + stripeAccount + `","type":"v1.charge.refunded","related_object":{"id":"ch_1","type":"charge","url":"/v1/charges/ch_9"}}`
	h.send(t, signed(thin, otherEventSecret, time.Now())).must(t, 200, "")
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE object = 'charge' AND object_id = 'ch_1' AND type = 'charge.refunded'`); n != 2 {
		t.Errorf("%d events are stored", n)
	}
}

func TestAnEventWithATimeThatCannotBeIsStored(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for n, created := range []string{"9999999999999", "-210866803201", "9223372036854775807"} {
		body := strings.Replace(event(fmt.Sprintf("evt_%d", n), "charge.refunded", "ch_1"), "1700000000", created, 1)
		h.send(t, signed(body, eventSecret, time.Now())).must(t, 200, "")
	}
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE created_at IS NULL`); n != 3 {
		t.Errorf("%d events without a time are stored, want 3", n)
	}
}

func TestAnEventThatStripeDidNotSignChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	body, now := event("evt_1", "charge.refunded", "ch_1"), time.Now()
	forged := signed(body, eventSecret, now)
	forged.body = event("evt_1", "charge.refunded", "ch_2")
	unsigned := call{method: http.MethodPost, path: "/v1/stripe/events", body: body}
	asClient := unsigned
	asClient.as = h.visa
	big := `{"id":"evt_1","object":"event","type":"charge.refunded","data":{"object":{"id":"ch_1"}},"pad":"` + strings.Repeat("x", 256<<10) + `"}`
	for name, request := range map[string]call{
		"forged":             forged,
		"unsigned":           unsigned,
		"with an API key":    asClient,
		"by another secret":  signed(body, "whsec_other0123456789abcdef01", now),
		"stale":              signed(body, eventSecret, now.Add(-6*time.Minute)),
		"from the future":    signed(body, eventSecret, now.Add(6*time.Minute)),
		"too large":          signed(big, eventSecret, now),
		"empty and unsigned": {method: http.MethodPost, path: "/v1/stripe/events"},
	} {
		if r := h.send(t, request).must(t, 400, web.CodeSignatureInvalid); r.problem.Retryable || r.problem.SafeNewKey {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	h.send(t, signed(`{"id":"evt_1"}`, eventSecret, now)).must(t, 400, web.CodeInvalidJSON)
	query := signed(body, eventSecret, now)
	query.path += "?x=1"
	h.send(t, query).must(t, 422, web.CodeInvalidParameters)
	if n := events(t, h); n != 0 {
		t.Errorf("%d events are stored", n)
	}
	h.send(t, call{method: http.MethodGet, path: "/v1/stripe/events"}).must(t, 405, web.CodeMethodNotAllowed)
}

func TestAnEventOfSomebodyElseIsIgnored(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, body := range []string{
		strings.Replace(event("evt_1", "charge.refunded", "ch_1"), `"livemode":false`, `"livemode":true`, 1),
		strings.Replace(event("evt_2", "charge.refunded", "ch_1"), `"object":"event"`, `"object":"event","account":"acct_other"`, 1),
		`{"id":"evt_3","object":"v2.core.event","context":"acct_other","type":"v1.charge.refunded","related_object":{"id":"ch_1"}}`,
		event("evt_4", "customer.created", "cus_1"),
	} {
		h.send(t, signed(body, eventSecret, time.Now())).must(t, 200, "")
	}
	if n := events(t, h); n != 0 {
		t.Errorf("%d events are stored", n)
	}
	ours := strings.Replace(event("evt_5", "charge.refunded", "ch_1"), `"object":"event"`, `"object":"event","account":"`+stripeAccount+`"`, 1)
	h.send(t, signed(ours, eventSecret, time.Now())).must(t, 200, "")
	if n := events(t, h); n != 1 {
		t.Errorf("%d events are stored", n)
	}
	// As long as nobody knows which account is ours, Stripe sends it again.
	config := h.config
	config.StripeAccount = nil
	unsure := h.serving(t, NewService(config).Handler())
	unsure.send(t, signed(strings.Replace(ours, "evt_5", "evt_6", 1), eventSecret, time.Now())).must(t, 503, web.CodeUnavailable)
	unsure.send(t, signed(event("evt_7", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 200, "")
}

func TestAnEventThatCannotBeStoredIsSentAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `ALTER TABLE stripe_events RENAME TO gone`)
	h.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 500, web.CodeInternal)
	h.exec(t, `ALTER TABLE gone RENAME TO stripe_events`)
	h.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 200, "")
}

// TestAStandbyThatDoesNotConfirm: an event whose commit may be lost in a
// fail-over is not acknowledged.
func TestAStandbyThatDoesNotConfirm(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	config := h.config
	config.Unconfirmed = alwaysUnconfirmed
	h.serving(t, NewService(config).Handler()).send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 503, web.CodeUnavailable)
	h.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 200, "")
}

// TestStrangersCannotFillTheMemory: only so many events are received at once.
func TestStrangersCannotFillTheMemory(t *testing.T) {
	t.Parallel()
	p := newHarness(t).behindProxy(t)
	end := p.stall(t, func(i int) string { return fmt.Sprint("198.51.100.", i) })
	pgtest.Eventually(t, "all places are taken", func() bool { return p.service.events.places.Free() == 0 })
	p.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 503, web.CodeUnavailable)
	end()
	pgtest.Eventually(t, "all places are free", func() bool { return p.service.events.places.Free() == maxReceiving })
	p.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 200, "")
}

// TestAStrangerCannotKeepEventsOut: whoever begins to send many events, and
// goes on slowly, leaves places to others.
func TestAStrangerCannotKeepEventsOut(t *testing.T) {
	t.Parallel()
	p := newHarness(t).behindProxy(t)
	end := p.stall(t, func(int) string { return "198.51.100.1" })
	defer end()
	pgtest.Eventually(t, "the stranger has its places", func() bool { return len(p.service.events.places.Full()) == 1 })
	p.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 200, "")
}

// behindProxy returns a process that learns from a proxy who the sender is.
func (h *harness) behindProxy(t *testing.T) *process {
	t.Helper()
	p := *h.process
	p.config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	p.service = NewService(p.config)
	return p.serving(t, p.service.Handler())
}

// stall begins to send as many events as may be received at once, the i-th from
// an address, and ends none of them before end is called.
func (p *process) stall(t *testing.T, address func(i int) string) (end func()) {
	t.Helper()
	var stuck []*io.PipeWriter
	for i := range maxReceiving {
		body, writer := io.Pipe()
		stuck = append(stuck, writer)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.api+"/v1/stripe/events", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Forwarded-For", address(i))
		go func() {
			if answer, err := http.DefaultTransport.RoundTrip(request); err == nil {
				_ = answer.Body.Close()
			}
		}()
	}
	return func() {
		for _, writer := range stuck {
			_ = writer.Close()
		}
	}
}

func TestNoEventWithoutASecret(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	config := h.config
	config.EventSecrets, config.Logger = nil, slog.New(slog.DiscardHandler)
	deaf := h.serving(t, NewService(config).Handler())
	deaf.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), eventSecret, time.Now())).must(t, 400, web.CodeSignatureInvalid)
	deaf.send(t, signed(event("evt_1", "charge.refunded", "ch_1"), "", time.Now())).must(t, 400, web.CodeSignatureInvalid)
}

// Stripe's operator sees a 400 only, so ours looks into the log.
func TestTheLogSaysWhyAnEventIsRefused(t *testing.T) {
	t.Parallel()
	o := newObserved(t)
	deaf := *o
	config := o.config
	config.EventSecrets, config.Logger = nil, slog.New(slog.NewJSONHandler(o.log, nil))
	deaf.handler = NewService(config).Handler()
	body, now := event("evt_1", "charge.refunded", "ch_1"), time.Now()
	for want, c := range map[string]struct {
		to   *observed
		sent call
	}{
		"no signature matches":                           {o, signed(body, "whsec_other0123456789abcdef01", now)},
		"the signature is not of this time":              {o, signed(body, eventSecret, now.Add(-6*time.Minute))},
		"there is no secret to check its signature with": {&deaf, signed(body, eventSecret, now)},
	} {
		r, line := c.to.ask(t, c.sent)
		r.must(t, 400, web.CodeSignatureInvalid)
		if line["error"] != "signature_invalid: the request is not signed by Stripe: "+want || line["level"] != "INFO" {
			t.Errorf("the log says %v, want %q", line, want)
		}
	}
}

func alwaysUnconfirmed(*pgx.Conn) bool { return true }
