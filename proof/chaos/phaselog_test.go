package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRecoveries: a key that a killed api held counts, unless a client used it
// again.
func TestRecoveries(t *testing.T) {
	t.Parallel()
	ride := "ride_created"
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	killed := begun.Add(time.Second)
	changes := []change{
		{Epoch: 1, Held: true, To: ride, Who: "api-1", At: begun},
		{Epoch: 2, Held: true, From: &ride, To: ride, Who: "completer-1", At: begun.Add(lease + time.Second)},
		{Epoch: 2, From: &ride, To: "finished", Who: "completer-1", At: begun.Add(lease + 1500*time.Millisecond)},
	}
	once := []*op{{At: begun}}
	for name, c := range map[string]struct {
		who     string
		ops     []*op
		changes []change
		want    []time.Duration
	}{
		"abandoned by the one that was killed": {"api-1", once, changes, []time.Duration{lease + 500*time.Millisecond}},
		"held by another":                      {"api-2", once, changes, nil},
		"asked for again":                      {"api-1", append(once, &op{At: killed.Add(time.Second)}), changes, nil},
		"finished before the kill":             {"api-1", once, []change{changes[0], {Epoch: 1, To: "finished", Who: "api-1", At: begun}}, nil},
		"never finished":                       {"api-1", once, changes[:2], nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := rideKey{"acct_1", "k"}
			marks := []pastEvent{{kind: measuredKill, target: c.who, from: killed}}
			got := abandoned(marks, map[rideKey][]*op{id: c.ops}, map[rideKey][]change{id: c.changes})
			if diff := cmp.Diff(c.want, got.sinceKill); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var measured []time.Duration
	for i := range 100 {
		measured = append(measured, time.Duration(100-i)*time.Second)
	}
	for percent, want := range map[int]time.Duration{1: time.Second, 50: 50 * time.Second, 99: 99 * time.Second, 100: 100 * time.Second} {
		if got := quantile(measured, percent); got != want {
			t.Errorf("percentile %d is %s, want %s", percent, got, want)
		}
	}
	if quantile(nil, 50) != 0 || quantile(measured[:10], 99) != 100*time.Second {
		t.Error("the percentile of nothing isn't 0, or percentile 99 of ten isn't the longest")
	}
}
