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
		answerError(401, "invalid_request_error", "", nil)(w, r)
	}
	server := newStripeServer(t, chargeOnly(refusing))
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
	server := newStripeServer(t, chargeOnly(answerError(401, "invalid_request_error", "", nil), answerCut("", hangUp), hold))
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
