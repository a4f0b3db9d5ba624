package fakestripe

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"
)

// Latency is a distribution of real time. At most one of its forms is given:
// fixed; uniform between Min and Max; exponential around Mean; or lognormal
// through P50 and P99, which is what a payment API's latency looks like.
type Latency struct {
	Fixed    time.Duration
	Min, Max time.Duration
	Mean     time.Duration
	P50, P99 time.Duration
}

// check returns what is wrong with a latency. None at all is fine.
func (l Latency) check() error {
	forms := 0
	for _, given := range []bool{l.Fixed != 0, l.Min != 0 || l.Max != 0, l.Mean != 0, l.P50 != 0 || l.P99 != 0} {
		if given {
			forms++
		}
	}
	switch {
	case forms > 1:
		return errors.New("a latency is a fixed duration, min and max, mean, or p50 and p99")
	case min(l.Fixed, l.Min, l.Mean, l.P50) < 0:
		return errors.New("a latency must not be negative")
	case l.Max < l.Min:
		return errors.New("a latency's max is below its min")
	case l.P99 < l.P50 || l.P50 == 0 && l.P99 != 0:
		return errors.New("a latency's p99 is below its p50, or has none")
	}
	return nil
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// draw returns one latency.
func (l Latency) draw(random *rand.Rand) time.Duration {
	switch {
	case l.Max > 0:
		return l.Min + time.Duration(random.Int64N(int64(l.Max-l.Min)+1))
	case l.Mean > 0:
		return time.Duration(random.ExpFloat64() * float64(l.Mean))
	case l.P50 > 0:
		sigma := math.Log(float64(l.P99)/float64(l.P50)) / z99
		return time.Duration(float64(l.P50) * math.Exp(sigma*random.NormFloat64()))
	default:
		return l.Fixed
	}
}
