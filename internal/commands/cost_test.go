package commands

import (
	"fmt"
	"io"
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
		{"a ride", 480, func(i int) string { return fmt.Sprint("fresh-", i) }},
		{"a replay", 240, func(int) string { return "warm-0" }},
	} {
		got := sent(200, c.key)
		t.Logf("%s: %.0f allocations", c.what, got)
		if got > c.most {
			t.Errorf("%s costs %.0f allocations, want %.0f at most", c.what, got, c.most)
		}
	}
	if next := api.metric(t, "go_memstats_next_gc_bytes"); next < 2*heapRoom {
		t.Errorf("the garbage collector runs again at %.0f bytes, want %d at least", next, 2*heapRoom)
	}
}

// TestStacks bounds the stacks of a ride that waits for Stripe, which are a third
// of what it takes of an api's memory. That of the server's goroutine is of 16
// kB, and would be of 32 if it ever needed a little more: so large is whatever
// is passed by value between the handler and the statements of a ride, and
// between the handler and the call to Stripe. Nor may it grow when the ride is
// answered, because it stays so large as long as its connection.
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
	perRide := func() float64 { return (api.metric(t, "go_memstats_stack_inuse_bytes") - before) / waiting / 1000 } // kB
	transport := &http.Transport{MaxIdleConnsPerHost: waiting}
	defer transport.CloseIdleConnections()
	var clients sync.WaitGroup
	for i := range waiting {
		clients.Go(func() { s.hailOver(t, transport, api, fmt.Sprint("k", i)) })
		if sent := i + 1; sent%atOnce == 0 {
			s.waitForStripe(t, 1+sent)
		}
	}
	got := perRide()
	close(gate)
	clients.Wait()
	answered := perRide()
	t.Logf("%.1f kB, %.1f kB after the answer", got, answered)
	most, mostAnswered := 30.0, 28.0
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		most, mostAnswered = 60, 60 // the race detector makes every call take more
	}
	if got > most {
		t.Errorf("the stacks of a ride that waits for Stripe are of %.1f kB, want %.0f at most", got, most)
	}
	if answered > mostAnswered {
		t.Errorf("the stack of an answered ride's connection is of %.1f kB, want %.0f at most", answered, mostAnswered)
	}
}

// hailOver hails a ride, and leaves the connection open.
func (s *scene) hailOver(t *testing.T, transport *http.Transport, p *process, key string) {
	t.Helper()
	request, err := s.rideRequest(t.Context(), p, key)
	if err != nil {
		t.Error(err)
		return
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Errorf("ride %s was not answered: %v", key, err)
		return
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusCreated {
		t.Errorf("ride %s was answered %d %s %v", key, response.StatusCode, body, err)
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
