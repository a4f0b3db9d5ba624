package commands

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestAllocations bounds how often an api allocates for a ride, and for a
// replay: all that it does, with the HTTP of both sides. It keeps the cost from
// creeping back; docs/performance.md says what it is made of.
func TestAllocations(t *testing.T) {
	t.Parallel()
	pgtest.NotThroughPooler(t, "the driver allocates more there")
	s := newScene(t)
	api := s.start(t, "api", "RATE_LIMIT=0")
	// sent returns how often the api allocates for each of n requests.
	sent := func(n int, key func(i int) string) float64 {
		before := api.allocations(t)
		for i := range n {
			if a := s.hail(api, key(i)); a.status != http.StatusCreated {
				t.Fatalf("ride %s was answered %d", key(i), a.status)
			}
		}
		return (api.allocations(t) - before) / float64(n)
	}
	sent(50, func(i int) string { return fmt.Sprint("warm-", i) })
	for _, c := range []struct {
		what string
		most float64
		key  func(i int) string
	}{
		{"a ride", 475, func(i int) string { return fmt.Sprint("fresh-", i) }},
		{"a replay", 240, func(int) string { return "warm-0" }},
	} {
		got := sent(200, c.key)
		t.Logf("%s: %.0f allocations", c.what, got)
		if got > c.most {
			t.Errorf("%s costs %.0f allocations, want %.0f at most", c.what, got, c.most)
		}
	}
	if next := api.metric(t, "go_memstats_next_gc_bytes"); next < 2*heapRoom {
		t.Errorf("the collector runs again at %.0f bytes, want %d at least", next, 2*heapRoom)
	}
}

// TestStacks bounds the stacks of a ride that waits for Stripe, which are half
// of what it takes of an api's memory. That of the server's goroutine is of 16
// kB, and would be of 32 if it ever needed a little more: so large is whatever
// is passed by value between the handler and the statements of a ride, and
// between the handler and the call to Stripe.
func TestStacks(t *testing.T) {
	t.Parallel()
	const waiting, atOnce = 200, 20
	s := newScene(t)
	api := s.start(t, "api", "RATE_LIMIT=0", "MAX_RIDES_PER_ACCOUNT=1000", "LEASE=10m", "STRIPE_TIMEOUT=5m")
	if a := s.hail(api, "warm"); a.status != http.StatusCreated {
		t.Fatalf("a ride was answered %d", a.status)
	}
	gate := make(chan struct{})
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Times: waiting})
	before := api.metric(t, "go_memstats_stack_inuse_bytes")
	var clients sync.WaitGroup
	for i := range waiting {
		clients.Go(func() {
			if a := s.hail(api, fmt.Sprint("k", i)); a.status != http.StatusCreated {
				t.Errorf("ride %d was answered %d %s %v", i, a.status, a.body, a.err)
			}
		})
		if sent := i + 1; sent%atOnce == 0 {
			s.waitForStripe(t, 1+sent)
		}
	}
	got := (api.metric(t, "go_memstats_stack_inuse_bytes") - before) / waiting / 1000
	close(gate)
	clients.Wait()
	t.Logf("%.1f kB", got)
	most := 36.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		most = 60 // the race detector makes every call take more
	}
	if got > most {
		t.Errorf("the stacks of a ride that waits for Stripe are of %.1f kB, want %.0f at most", got, most)
	}
}

// allocations returns how often a process has allocated so far.
func (p *process) allocations(t *testing.T) float64 {
	t.Helper()
	return p.metric(t, "go_memstats_mallocs_total")
}

// metric returns the value of a metric without labels.
func (p *process) metric(t *testing.T, name string) float64 {
	t.Helper()
	_, metrics := fetch(t, p.admin+"/metrics")
	for line := range strings.Lines(metrics) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
