package phases

import (
	"errors"
	"testing"
	"time"
)

// retryAfter returns how long a request is asked to wait whose key was claimed
// some time ago.
func retryAfter(t *testing.T, age, lease time.Duration) time.Duration {
	t.Helper()
	busy, ok := errors.AsType[*InUseError](inUse(lease-age, lease, age))
	if !ok {
		t.Fatal("it is no InUseError")
	}
	return busy.RetryAfter
}

// TestEightRetriesOutliveALease: a client that obeys eight times finds the key
// of a dead worker free, whenever it asks first, and however long leases are.
func TestEightRetriesOutliveALease(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{
		3 * time.Second, 10 * time.Second, 30 * time.Second, 31 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute,
	} {
		for first := range 100 {
			age := lease * time.Duration(first) / 100
			for range 8 {
				age += retryAfter(t, age, lease)
			}
			if age != lease {
				t.Errorf("of a lease of %s, %s are left after eight waits that began after %d %% of it", lease, lease-age, first)
			}
		}
	}
}

// TestAWaitGrowsAndNeverExceedsTheLease: it grows with the age of the claim,
// until the rest of the lease is shorter.
func TestAWaitGrowsAndNeverExceedsTheLease(t *testing.T) {
	t.Parallel()
	const lease = 30 * time.Second
	for age, want := range map[time.Duration]time.Duration{
		-time.Second: time.Second, 0: time.Second, time.Second: time.Second, 4 * time.Second: 3 * time.Second,
		16 * time.Second: 12 * time.Second, 20 * time.Second: 10 * time.Second, 29900 * time.Millisecond: 100 * time.Millisecond,
		lease: 0, lease + time.Second: 0,
	} {
		if got := retryAfter(t, age, lease); got != want {
			t.Errorf("after %s it is %s, want %s", age, got, want)
		}
	}
}
