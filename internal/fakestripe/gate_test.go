package fakestripe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestDelaysCombineWithOtherFaults(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	gate := make(chan struct{})
	f.Script(
		Fault{Kind: Delayed, Times: -1, HoldBefore: gate},
		Fault{Kind: Unavailable503},
	)
	answer := make(chan reply, 1)
	go func() { answer <- f.post(t, intents, "k1", hail("r")) }()
	if err := f.WaitSends(soon(t), 1, func(s Send) bool { return s.InFlight && s.Status == 0 }); err != nil {
		t.Fatal(err)
	}
	close(gate)
	r := <-answer
	r.want(t, 503)
	f.post(t, intents, "k1", hail("r")).want(t, 200)
	if sends := f.Ledger(); sends[0].Fault != Unavailable503 || sends[1].Fault != Delayed {
		t.Errorf("the ledger shows %+v", sends)
	}
}

// Stripe executes a request that it has read, even if the client goes away.
func TestAClientThatGoesAwayDoesNotStopTheExecution(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	gate := make(chan struct{})
	f.Script(Fault{Kind: Delayed, HoldBefore: gate})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+intents, strings.NewReader(hail("r")))
		if err != nil {
			gone <- err
			return
		}
		request.Header.Set("Authorization", "Bearer sk_test_123")
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Idempotency-Key", "k1")
		response, err := newClient().Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		gone <- err
	}()
	if err := f.WaitSends(soon(t), 1, nil); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the client's error is %v", err)
	}
	close(gate)
	if err := f.WaitSends(soon(t), 1, func(s Send) bool { return s.Status == 200 }); err != nil {
		t.Fatal(err)
	}
	f.wantCharges(t, "r", 1)
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Idempotent-Replayed", "true")
}

// Between the execution and the answer the key is saved, so another request
// with it is answered while the first one still waits.
func TestHoldAfterLeavesTheKeySaved(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	gate := make(chan struct{})
	f.Script(Fault{Kind: Delayed, HoldAfter: gate})
	first := make(chan reply, 1)
	go func() { first <- f.post(t, intents, "k1", hail("r")) }()
	if err := f.WaitSends(soon(t), 1, func(s Send) bool { return s.Status == 200 }); err != nil {
		t.Fatal(err)
	}
	second := f.post(t, intents, "k1", hail("r"))
	second.wantHeader(t, "Idempotent-Replayed", "true")
	select {
	case r := <-first:
		t.Fatalf("the held request was answered: %+v", r)
	default:
	}
	close(gate)
	if r := <-first; r.body != second.body {
		t.Errorf("the first got %s, the second %s", r.body, second.body)
	}
	f.wantCharges(t, "r", 1)
}

func TestClosingTheServerEndsHeldRequests(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: Delayed, HoldBefore: make(chan struct{})})
	lost := make(chan error, 1)
	go func() {
		_, err := try(t, http.MethodPost, f.url+intents, "k1", hail("r"))
		lost <- err
	}()
	if err := f.WaitSends(soon(t), 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-lost; err == nil {
		t.Error("the held request was answered")
	}
	if err := f.WaitSends(soon(t), 5, nil); err == nil {
		t.Error("WaitSends returned without an error on a closed server")
	}
	f.wantCharges(t, "r", 0)
	f.lost(t, hail("r"))
}

func TestWaitSendsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.WaitSends(ctx, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	f.read(t, intents)
	if err := f.WaitSends(soon(t), 1, func(s Send) bool { return s.Method == http.MethodGet && s.Status == 200 }); err != nil {
		t.Errorf("a read is not counted: %v", err)
	}
}

// A request whose body ends too early is never executed, and the ledger shows
// it.
func TestAnIncompleteBodyNeverExecutes(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	form := hail("r")
	for n, arrived := range []int{0, 1, len(form) / 2, len(form) - 1, len(form)} {
		body := io.MultiReader(strings.NewReader(form[:arrived]), brokenReader{})
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+intents, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer sk_test_123")
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if response, err := newClient().Do(request); err == nil {
			_ = response.Body.Close()
			t.Fatal("half a request was answered")
		}
		if err := f.WaitSends(soon(t), n+1, func(s Send) bool { return s.Incomplete && !s.InFlight }); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(f.PaymentIntents()); got != 0 {
		t.Errorf("there are %d payment intents, want none", got)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestALatencyIsTakenBeforeOrAfterTheExecution(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Millisecond
	for _, at := range []string{"before", "after"} {
		t.Run("It is taken "+at+" the execution.", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(Fault{Kind: DropAfter, Latency: Latency{Fixed: Duration(wait)}, LatencyAt: at})
			began := time.Now()
			f.lost(t, hail("r"))
			if took := time.Since(began); took < wait {
				t.Errorf("it took %s, want at least %s", took, wait)
			}
			f.wantCharges(t, "r", 1)
		})
	}
}

func TestClearingTheFaultsEndsTheirDelays(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]Fault{
		"before the execution": {Kind: Delayed, Latency: Latency{Fixed: Duration(time.Hour)}},
		"after the execution":  {Kind: Delayed, Latency: Latency{Fixed: Duration(time.Hour)}, LatencyAt: "after"},
		"in the answer":        {Kind: SlowDrip, Over: Duration(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(fault)
			answered := make(chan reply, 1)
			go func() { answered <- f.post(t, intents, "k1", hail("r")) }()
			if err := f.WaitSends(soon(t), 1, nil); err != nil {
				t.Fatal(err)
			}
			f.clearFaults()
			select {
			case r := <-answered:
				r.want(t, 200, "status", "succeeded")
			case <-soon(t).Done():
				t.Fatal("the delayed request is still held")
			}
		})
	}
}

func TestASlowDripTakesItsTimeAndArrivesWhole(t *testing.T) {
	t.Parallel()
	const over = 100 * time.Millisecond
	f := open(t, Options{})
	f.Script(Fault{Kind: SlowDrip, Over: Duration(over)})
	began := time.Now()
	slow := f.post(t, intents, "k1", hail("r"))
	if took := time.Since(began); took < over {
		t.Errorf("it took %s, want at least %s", took, over)
	}
	if quick := f.post(t, intents, "k1", hail("r")); !bytes.Equal([]byte(slow.body), []byte(quick.body)) {
		t.Errorf("the slow answer is %s, the quick one %s", slow.body, quick.body)
	}
}
