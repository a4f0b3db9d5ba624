package fakestripe

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"time"
)

// Latency is a distribution of real time, in one of four forms: Fixed; uniform
// from Min to Max; exponential with the mean Mean; or lognormal with the median
// P50 and the 99th percentile P99, which is how the latency of a payment API is
// distributed. The zero value is no latency.
//
// Its JSON is an object with the fields of one form, or a string such as
// "200ms" for Fixed.
type Latency struct {
	Fixed Duration `json:"fixed,omitempty"`
	Min   Duration `json:"min,omitempty"`
	Max   Duration `json:"max,omitempty"`
	Mean  Duration `json:"mean,omitempty"`
	P50   Duration `json:"p50,omitempty"`
	P99   Duration `json:"p99,omitempty"`
}

// UnmarshalJSON reads a string or an object. A field that it does not know is
// an error.
func (l *Latency) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &l.Fixed)
	}
	type latency Latency // without this method
	return strict(b, (*latency)(l))
}

// check returns an error if the latency makes no sense.
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

// draw draws a latency.
func (l Latency) draw(random *rand.Rand) time.Duration {
	switch {
	case l.Max > 0:
		return time.Duration(l.Min) + time.Duration(random.Int64N(int64(l.Max-l.Min)+1))
	case l.Mean > 0:
		return time.Duration(random.ExpFloat64() * float64(l.Mean))
	case l.P50 > 0:
		sigma := math.Log(float64(l.P99)/float64(l.P50)) / z99
		return time.Duration(float64(l.P50) * math.Exp(sigma*random.NormFloat64()))
	default:
		return time.Duration(l.Fixed)
	}
}
