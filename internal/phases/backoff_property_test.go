package phases_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// durations returns the durations that a back-off may hold. The ends of the
// scale are as likely as the middle, because that is where things overflow.
func durations(least time.Duration) *rapid.Generator[time.Duration] {
	return rapid.OneOf(
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(int64(least), int64(time.Hour)).Draw(t, "usual"))
		}),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(int64(least), math.MaxInt64).Draw(t, "any"))
		}),
		rapid.Just(least),
		rapid.Just(time.Duration(math.MaxInt64)),
	)
}

// doubled returns min(initial·2^(n−1), most), computed in another way than by
// the code: no step overflows.
func doubled(initial, most time.Duration, n int) time.Duration {
	for ; n > 1 && initial > 0 && initial < most; n-- {
		if initial > most/2 {
			return most
		}
		initial *= 2
	}
	return min(initial, most)
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := phases.Backoff{Initial: durations(0).Draw(t, "initial"), Max: durations(0).Draw(t, "max")}
		n := rapid.OneOf(rapid.IntRange(1, 80), rapid.IntRange(1, math.MaxInt)).Draw(t, "failures")
		most := doubled(b.Initial, max(b.Max, b.Initial), n)
		least := max(most/2, b.Initial)
		if got := b.Next(n); got < least || got > most {
			t.Fatalf("after %d failures, %+v waits %s, want %s to %s", n, b, got, least, most)
		}
	})
}

// TestBackoffDoesNotOverflow: doubling Initial overflows long before such a Max
// is reached, and the wait must not fall to Initial then. An Initial of zero
// stays zero.
func TestBackoffDoesNotOverflow(t *testing.T) {
	t.Parallel()
	long := phases.Backoff{Initial: time.Second, Max: math.MaxInt64}
	for _, n := range []int{35, 36, 60, 64, 65, 1000, math.MaxInt} {
		if got := long.Next(n); got < long.Max/2 {
			t.Errorf("after %d failures %+v waits %s", n, long, got)
		}
	}
	if got := (phases.Backoff{Max: time.Hour}).Next(math.MaxInt); got != 0 {
		t.Errorf("an Initial of 0 becomes %s", got)
	}
}

// TestBackoffTakesAnyCount: a count below 1 counts as 1.
func TestBackoffTakesAnyCount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := phases.Backoff{Initial: durations(1).Draw(t, "initial"), Max: durations(1).Draw(t, "max")}
		if got := b.Next(rapid.IntRange(math.MinInt, 1).Draw(t, "failures")); got != b.Initial {
			t.Fatalf("the first wait of %+v is %s", b, got)
		}
	})
}
