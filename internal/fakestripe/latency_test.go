package fakestripe

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// percentiles draws many latencies and returns their mean and three
// percentiles.
func percentiles(l Latency) (mean, p1, p50, p99 time.Duration) {
	const n = 20_000
	random := rand.New(rand.NewPCG(1, 1))
	drawn := make([]time.Duration, n)
	for i := range drawn {
		drawn[i] = l.draw(random)
		mean += drawn[i] / n
	}
	slices.Sort(drawn)
	return mean, drawn[n/100], drawn[n/2], drawn[n*99/100]
}

func near(got, want time.Duration) bool {
	return float64(got) > 0.9*float64(want) && float64(got) < 1.1*float64(want)
}

func TestLatenciesFollowTheirDistributions(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	of := func(n int) Duration { return Duration(n) * Duration(ms) }
	if mean, p1, _, p99 := percentiles(Latency{Fixed: of(7)}); p1 != 7*ms || p99 != 7*ms || !near(mean, 7*ms) {
		t.Errorf("a fixed latency of 7 ms is %s to %s", p1, p99)
	}
	if mean, p1, _, p99 := percentiles(Latency{Min: of(100), Max: of(200)}); !near(mean, 150*ms) || !near(p1, 101*ms) || !near(p99, 199*ms) {
		t.Errorf("a uniform latency has the mean %s and goes from %s to %s", mean, p1, p99)
	}
	if mean, _, p50, _ := percentiles(Latency{Mean: of(100)}); !near(mean, 100*ms) || !near(p50, 69*ms) {
		t.Errorf("an exponential latency has the mean %s and the median %s", mean, p50)
	}
	if _, _, p50, p99 := percentiles(Latency{P50: of(200), P99: of(2000)}); !near(p50, 200*ms) || !near(p99, 2*time.Second) {
		t.Errorf("a lognormal latency has the median %s and the 99th percentile %s", p50, p99)
	}
}

func TestLatenciesAreRepeatable(t *testing.T) {
	t.Parallel()
	draw := func() []time.Duration {
		s, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var drawn []time.Duration
		for range 10 {
			drawn = append(drawn, Latency{Mean: Duration(time.Second)}.draw(s.random))
		}
		return drawn
	}
	if first, second := draw(), draw(); !slices.Equal(first, second) {
		t.Errorf("one server draws %v, another one %v", first, second)
	}
}
