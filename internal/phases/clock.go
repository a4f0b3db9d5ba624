package phases

import "time"

// clock is the database's clock as this process knows it: the database's time
// at one moment, and a stopwatch that was started before that time was asked
// for. It can only be ahead of the database's clock, so a window that is judged
// by it closes early.
type clock struct {
	at    time.Time
	watch stopwatch
	// lease is how long the attempt's lease lasted at that moment.
	lease time.Duration
}

func (c clock) now() time.Time { return c.at.Add(c.watch.elapsed()) }

// leaseLeft returns how long the lease still lasts, or less.
func (c clock) leaseLeft() time.Duration { return c.lease - c.watch.elapsed() }

// stopwatch measures how much time has passed outside this process. The
// monotonic clock stands still while a virtual machine is suspended, and the
// wall clock can be set back, so the larger of the two differences counts.
type stopwatch struct {
	monotonic time.Time
	wall      time.Time
}

func startStopwatch() stopwatch {
	now := time.Now()
	return stopwatch{monotonic: now, wall: now.Round(0)}
}

func (s stopwatch) elapsed() time.Duration {
	now := time.Now()
	return max(now.Sub(s.monotonic), now.Round(0).Sub(s.wall))
}
