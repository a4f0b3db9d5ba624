package fakestripe

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// percentiles returns the mean and three percentiles of many drawn latencies.
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
	if mean, p1, _, p99 := percentiles(Latency{Fixed: 7 * ms}); p1 != 7*ms || p99 != 7*ms || !near(mean, 7*ms) {
		t.Errorf("a fixed latency of 7 ms is %s to %s", p1, p99)
	}
	if mean, p1, _, p99 := percentiles(Latency{Min: 100 * ms, Max: 200 * ms}); !near(mean, 150*ms) || !near(p1, 101*ms) || !near(p99, 199*ms) {
		t.Errorf("a uniform latency has the mean %s and goes from %s to %s", mean, p1, p99)
	}
	if mean, _, p50, _ := percentiles(Latency{Mean: 100 * ms}); !near(mean, 100*ms) || !near(p50, 69*ms) {
		t.Errorf("an exponential latency has the mean %s and the median %s", mean, p50)
	}
	if _, _, p50, p99 := percentiles(Latency{P50: 200 * ms, P99: 2 * time.Second}); !near(p50, 200*ms) || !near(p99, 2*time.Second) {
		t.Errorf("a lognormal latency has the median %s and the 99th percentile %s", p50, p99)
	}
}

func TestTheSeedMakesLatenciesRepeatable(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) []time.Duration {
		s, err := Open(Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		var drawn []time.Duration
		for range 10 {
			drawn = append(drawn, Latency{Mean: time.Second}.draw(s.random))
		}
		return drawn
	}
	if !slices.Equal(draw(1), draw(1)) {
		t.Error("the same seed gives other latencies")
	}
	if slices.Equal(draw(1), draw(2)) {
		t.Error("another seed gives the same latencies")
	}
}
