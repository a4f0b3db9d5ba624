package payments

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestRefusedKeyStopsAllRequestsUntilItWorks(t *testing.T) {
	t.Parallel()
	var repaired atomic.Bool
	refusing := func(w http.ResponseWriter, r *http.Request) {
		if repaired.Load() {
			answerOK(intentWith(nil))(w, r)
			return
		}
		answerUnauthorized()(w, r)
	}
	server := newStripeServer(t, withAccount(chargeOnly(refusing), answerUnauthorized()))
	var log bytes.Buffer
	client, registry := server.client(t, func(c *Config) {
		c.RefusedPause = 200 * time.Millisecond
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 20 {
		_, err := client.Charge(t.Context(), firstSend())
		var failed *phases.CallError
		if !errors.As(err, &failed) || failed.Class != phases.Transient {
			t.Fatalf("got %v, want a transient failure", err)
		}
	}
	if sends := len(server.received(routeCreate)); sends > 2 { // 2 if the machine paused for 200 ms
		t.Errorf("%d of 20 charges were sent with a refused key", sends)
	}
	wantEqual(t, "gauge", 1.0, gauge(t, registry))
	if !strings.Contains(log.String(), "Stripe refuses our API key") {
		t.Errorf("the log says nothing about the key: %s", log.String())
	}
	wantNoSecrets(t, log.String())

	repaired.Store(true)
	eventually(t, "a charge after the repair", func() bool {
		charge, err := client.Charge(t.Context(), firstSend())
		return err == nil && charge.Status == ChargeSucceeded
	})
	wantEqual(t, "gauge", 0.0, gauge(t, registry))
}

// After the pause one request finds out whether the key works. A broken
// connection shows nothing about the key.
func TestOneRequestTriesARefusedKey(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	hold := func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		answerError(403, "invalid_request_error", "", nil)(w, r)
	}
	server := newStripeServer(t, withAccount(chargeOnly(answerUnauthorized(), answerCut("", hangUp), hold), answerUnauthorized()))
	client, registry := server.client(t, func(c *Config) { c.RefusedPause = 20 * time.Millisecond })
	eventually(t, "a request after the pause", func() bool {
		_, _ = client.Charge(t.Context(), firstSend())
		return len(server.received(routeCreate)) == 2
	})
	var done sync.WaitGroup
	done.Go(func() { _, _ = client.Charge(t.Context(), firstSend()) })
	<-arrived
	for range 20 {
		if _, err := client.Charge(t.Context(), firstSend()); err == nil {
			t.Error("a charge succeeded")
		}
	}
	wantEqual(t, "sends while one finds out", 3, len(server.received(routeCreate)))
	close(release)
	done.Wait()
	wantEqual(t, "gauge", 1.0, gauge(t, registry))
}

// What Stripe refuses for a reason of the request's own must not stop the
// others.
func TestOneRefusedRequestStopsNobody(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]http.HandlerFunc{
		"a 401":                        answerUnauthorized(),
		"a 403":                        answerError(403, "invalid_request_error", "more_permissions_required", nil),
		"a 400 because of the mode":    answerError(400, "invalid_request_error", "livemode_mismatch", nil),
		"a 400 with a code of a key's": answerError(400, "invalid_request_error", "secret_key_required", nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := withAccount(chargeOnly(refuse, answerOK(intentWith(nil))), answerAccount())
			answers[routeCustomer], answers[routeMethod] = []http.HandlerFunc{answerOK(customerWith(nil))}, []http.HandlerFunc{answerOK(methodWith(nil))}
			client, registry := newStripeServer(t, answers).client(t, nil)
			_, err := client.Charge(t.Context(), firstSend())
			var failed *phases.CallError
			if !errors.As(err, &failed) || failed.Class != phases.Transient || !failed.Counts || failed.Reason == "" {
				t.Errorf("got %v, want a transient failure that counts", err)
			}
			wantEqual(t, "gauge", 0.0, gauge(t, registry))
			if charge, err := client.Charge(t.Context(), firstSend()); err != nil || charge.Status != ChargeSucceeded {
				t.Errorf("the next charge is %+v, %v", charge, err)
			}
		})
	}
}

// A request that stops all others each time that it is sent counts, so that it
// is parked in the end. A key that is refused as a whole counts for nobody.
func TestARequestThatTripsTheBreakerAgainCounts(t *testing.T) {
	t.Parallel()
	poisoned := firstSend()
	terms := testTerms()
	terms.Operation = phases.ForeignKey("hail", "charge_created", "acct_1", "poisoned")
	poisoned.Key, poisoned.Form = terms.Operation, NewChargeForm(terms)
	var revoked atomic.Bool
	answer := func(w http.ResponseWriter, r *http.Request) {
		if revoked.Load() || r.Header.Get("Idempotency-Key") == poisoned.Key {
			answerUnauthorized()(w, r)
			return
		}
		answerOK(intentWith(nil))(w, r)
	}
	server := newStripeServer(t, withAccount(chargeOnly(answer), answerUnauthorized()))
	client, _ := server.client(t, func(c *Config) { c.RefusedPause = time.Millisecond })
	counts := func(sent phases.Sent[ChargeForm]) bool {
		before := len(server.received(routeCreate))
		var failed *phases.CallError
		eventually(t, "a send", func() bool {
			charge, err := client.Charge(t.Context(), sent)
			if !errors.As(err, &failed) || failed.Class != phases.Transient {
				t.Fatalf("got %+v, %v, want a transient failure", charge, err)
			}
			return len(server.received(routeCreate)) > before
		})
		return failed.Counts
	}
	for range 3 {
		wantEqual(t, "counts while nobody shows that the key works", false, counts(poisoned))
	}
	for range 3 {
		eventually(t, "a charge by another request", func() bool {
			charge, err := client.Charge(t.Context(), firstSend())
			return err == nil && charge.Status == ChargeSucceeded
		})
		wantEqual(t, "counts after another request has shown that the key works", true, counts(poisoned))
	}
	revoked.Store(true)
	for range 3 {
		wantEqual(t, "counts for the other request", false, counts(firstSend()))
	}
}

func TestRefusedByUsSendsNothingUntilAllowed(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, withAccount(map[string][]http.HandlerFunc{
		routeCreate: {answerOK(intentWith(nil))}, routeList: {answerPage(false)},
	}, answerAccount()))
	client, registry := server.client(t, nil)
	client.Refuse("this API key belongs to the Stripe account acct_2, not acct_1")
	_, charged := client.Charge(t.Context(), firstSend())
	_, found := client.FindCharge(t.Context(), firstSend(), customers())
	for _, err := range []error{
		charged, found, client.VerifyNotCharged(t.Context(), firstSend().Key, firstSend().Form, time.Time{}, nil),
		client.Intents(t.Context(), time.Now(), func([]Intent) error { return nil }),
	} {
		if err == nil || !strings.Contains(err.Error(), "belongs to the Stripe account acct_2") {
			t.Errorf("got %v, want the reason", err)
		}
	}
	wantEqual(t, "gauge", 1.0, gauge(t, registry))
	if id, err := client.Account(t.Context()); err != nil || id != "acct_1" {
		t.Errorf("the account is %q, %v, want acct_1 also now", id, err)
	}
	wantEqual(t, "sends", 0, len(server.received(routeCreate))+len(server.received(routeList)))
	client.Allow()
	wantEqual(t, "gauge", 0.0, gauge(t, registry))
	if charge, err := client.Charge(t.Context(), firstSend()); err != nil || charge.Status != ChargeSucceeded {
		t.Errorf("got %+v, %v, want a charge", charge, err)
	}
}

func TestAccountSaysWhyItIsUnknown(t *testing.T) {
	t.Parallel()
	for want, answer := range map[string]http.HandlerFunc{
		"Stripe (account) answered 401": answerUnauthorized(),
		"Stripe (account) answered 200": answerWith(200, "{}"),
		"the connection ended":          answerCut("", hangUp),
	} {
		client, _ := newStripeServer(t, map[string][]http.HandlerFunc{routeAccount: {answer}}).client(t, nil)
		if id, err := client.Account(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v, want an error with %q", id, err, want)
		}
	}
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

// eventually fails the test if the condition doesn't become true within ten
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
