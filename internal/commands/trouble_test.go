package commands

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// TestAllTroubleAtOnce kills both APIs, one after the other, while Stripe saves
// 500s, loses requests and answers, and then can't be reached at all. Clients
// retry until they get an answer. Then all keys are reaped, and used again.
func TestAllTroubleAtOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"fused", "stepwise"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			settings := []string{"PHASES=" + mode, "LEASE=4s", "SAVED_500_AFTER=2s", "BACKOFF_INITIAL=50ms", "BACKOFF_MAX=500ms", "RATE_LIMIT=0"}
			const times, rides = 6, 40
			s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: fakestripe.Duration(50 * time.Millisecond)}, Times: -1})
			s.fake.Script(slices.Repeat([]fakestripe.Fault{
				{Kind: fakestripe.Saved500WithEffect},
				{Kind: fakestripe.Saved500WithoutEffect},
				{Kind: fakestripe.DropBefore},
				{Kind: fakestripe.DropAfter},
				{Kind: fakestripe.Unavailable503},
			}, times)...)
			var apis [2]atomic.Pointer[process]
			for i := range apis {
				apis[i].Store(s.start(t, "api", settings...))
				s.start(t, "completer", settings...)
			}
			var clients sync.WaitGroup
			var parked atomic.Int32
			for i := range rides {
				clients.Go(func() {
					next := i
					a := s.insist(func() *process { next++; return apis[next%len(apis)].Load() }, fmt.Sprint("k", i))
					switch {
					case a.status == http.StatusConflict && strings.Contains(a.body, "payment_under_review"):
						parked.Add(1)
					case a.status != http.StatusCreated:
						t.Errorf("ride %d got %d %s %v", i, a.status, a.body, a.err)
					}
				})
			}
			kill := func(i int) {
				apis[i].Load().kill(t)
				apis[i].Store(s.start(t, "api", settings...))
			}
			s.waitForStripe(t, rides/4)
			kill(0)
			s.waitForStripe(t, rides)
			s.script(t, `{"kind":"drop_before","match":{"method":"*"},"times":-1}`)
			kill(1)
			s.send(t, http.MethodDelete, "/_fake/faults", "")
			clients.Wait()
			if n := parked.Load(); n > times { // a 500 that nothing came of
				t.Errorf("%d keys are parked, want at most %d", n, times)
			}
			s.checkReaped(t, rides, int(parked.Load()), apis[0].Load())
		})
	}
}

// insist requests a ride until there is an answer, for a minute at most. It
// asks api for the process to send the next request to.
func (s *scene) insist(api func() *process, key string) answer {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		a := s.hail(api(), key)
		again := a.err != nil || a.status == http.StatusServiceUnavailable || strings.Contains(a.body, "idempotency_key_in_use")
		if !again || time.Now().After(deadline) {
			return a
		}
	}
}

// checkReaped checks the charges of rides, of which some are parked. It reaps
// all finished keys, deletes their tombstones, and has each used again.
func (s *scene) checkReaped(t *testing.T, rides, parked int, api *process) {
	t.Helper()
	s.checkCharges(t)
	if n := number(t, s, `SELECT count(*) FROM rides WHERE status = 'charged'`); n != rides-parked || len(s.fake.Charges()) != n {
		t.Errorf("%d of %d rides are charged, %d parked, and there are %d charges", n, rides, parked, len(s.fake.Charges()))
	}
	s.audit(t, 0)
	for _, reap := range []string{"--retention=1ms", "--tombstones=1ms"} {
		s.must(t, "completer", "once", "--retention=1ms", reap)
		for i := range rides {
			if a := s.hail(api, fmt.Sprint("k", i)); a.status == http.StatusCreated {
				t.Errorf("with %s ride %d was made again", reap, i)
			}
		}
	}
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys WHERE reaped_at IS NULL`); n != parked {
		t.Errorf("%d keys are not reaped, want the %d parked ones", n, parked)
	}
	s.checkCharges(t)
	if n := len(s.fake.Charges()); n != rides-parked {
		t.Errorf("there are %d charges, want %d", n, rides-parked)
	}
}
