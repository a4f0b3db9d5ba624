package phases

import (
	"testing"
	"time"
)

// TestTheStopwatchTakesTheLargerTime: a suspended machine stops the monotonic
// clock, and an operator can set the wall clock back.
func TestTheStopwatchTakesTheLargerTime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, watch := range map[string]stopwatch{
		"the machine was suspended for an hour":   {monotonic: now, wall: now.Round(0).Add(-time.Hour)},
		"the wall clock was set back by ten days": {monotonic: now.Add(-time.Hour), wall: now.Round(0).AddDate(0, 0, 10)},
	} {
		if got := watch.elapsed(); got < time.Hour || got > time.Hour+time.Minute {
			t.Errorf("%s: %s have passed, want an hour", name, got)
		}
	}
}
