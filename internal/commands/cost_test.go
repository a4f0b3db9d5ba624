package commands

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

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
		{"a ride", 600, func(i int) string { return fmt.Sprint("fresh-", i) }},
		{"a replay", 250, func(int) string { return "warm-0" }},
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
