package fakestripe

import (
	"net/http"
	"sync"
	"testing"
)

// "The request conflicts with another request that's executing concurrently":
// a 409 with the code idempotency_key_in_use, and nothing is saved.
func TestConcurrentUseOfAKeyIs409(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	gate := make(chan struct{})
	f.Script(Fault{Kind: Delayed, HoldBefore: gate})
	first := make(chan reply, 1)
	go func() { first <- f.post(t, intents, "k1", hail("r")) }()
	if err := f.WaitSends(soon(t), 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{hail("r"), hail("other")} {
		second := f.post(t, intents, "k1", form)
		second.want(t, 409, "error.code", "idempotency_key_in_use", "error.type", "invalid_request_error")
		second.wantHeader(t, "Stripe-Should-Retry", "true", "Idempotent-Replayed", "")
	}
	f.wantCharges(t, "r", 0)
	close(gate)
	answer := <-first
	answer.want(t, 200)
	again := f.post(t, intents, "k1", hail("r"))
	again.wantHeader(t, "Idempotent-Replayed", "true")
	if again.body != answer.body {
		t.Errorf("the replay is %s, want %s", again.body, answer.body)
	}
	f.wantCharges(t, "r", 1)
}

// Requests with one key are executed once, whatever their timing.
func TestSixtyFourConcurrentRequestsWithOneKeyExecuteOnce(t *testing.T) {
	t.Parallel()
	f := open(t, Options{Dir: t.TempDir()})
	const clients = 64
	bodies := make([]string, clients)
	fresh := make([]bool, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for {
				r, err := try(t, http.MethodPost, f.url+intents, "k1", hail("r"))
				if err != nil {
					t.Error(err)
					return
				}
				if r.status != http.StatusConflict {
					bodies[i], fresh[i] = r.body, r.header.Get("Idempotent-Replayed") == ""
					return
				}
			}
		})
	}
	all.Wait()
	executed := 0
	for i := range clients {
		if bodies[i] != bodies[0] {
			t.Errorf("client %d got %s, client 0 got %s", i, bodies[i], bodies[0])
		}
		if fresh[i] {
			executed++
		}
	}
	if executed != 1 {
		t.Errorf("%d answers are not replays, want 1", executed)
	}
	f.wantCharges(t, "r", 1)
	if got := len(f.PaymentIntents()); got != 1 {
		t.Errorf("there are %d payment intents, want 1", got)
	}
}
