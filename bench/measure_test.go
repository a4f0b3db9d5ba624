package main

import (
	"testing"
	"time"
)

// TestQuantiles: the 99th percentile of a few latencies is the longest of them,
// never a better one.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Millisecond)
	}
	for _, test := range []struct {
		of, percent int
		want        float64
	}{
		{100, 50, 50}, {100, 99, 99}, {100, 100, 100}, {99, 99, 99}, {10, 99, 10}, {10, 95, 10}, {3, 50, 2}, {1, 50, 1}, {0, 99, 0},
	} {
		if got := quantile(hundred[:test.of], test.percent); got != test.want {
			t.Errorf("percentile %d of %d latencies is %v ms, want %v", test.percent, test.of, got, test.want)
		}
	}
}
