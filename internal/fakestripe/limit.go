package fakestripe

import (
	"errors"
	"net/http"
	"time"
)

// Limits are how many requests the fake takes within any second: in all, and to
// one endpoint. 0 is no limit. Stripe's own are 100 and 25, or 25 and 25 with a
// test key (https://docs.stripe.com/rate-limits). They count in real time.
type Limits struct {
	PerSecond   int `json:"per_second"`
	PerEndpoint int `json:"per_endpoint"`
}

// check returns an error if the limits make no sense.
func (l Limits) check() error {
	if l.PerSecond < 0 || l.PerEndpoint < 0 {
		return errors.New("a limit of requests must not be negative")
	}
	return nil
}

// Traffic is what the fake has seen since its limits were set.
type Traffic struct {
	Limits

	// Busiest is the most requests that came within one second, and
	// BusiestEndpoint the most to one endpoint. What was refused counts too.
	Busiest         int `json:"busiest"`
	BusiestEndpoint int `json:"busiest_endpoint"`
	// Refused is how many were refused because of a limit.
	Refused int `json:"refused"`
}

// traffic counts requests and knows the limits. The server's lock protects it.
type traffic struct {
	Traffic

	all       window
	endpoints map[string]*window
}

// A window holds when the requests of the last second came.
type window struct {
	came    []time.Time
	granted []time.Time // those of them that were not refused
}

// add notes a request, and returns how many came within the last second.
func (w *window) add(now time.Time) int {
	w.came, w.granted = append(since(w.came, now), now), since(w.granted, now)
	return len(w.came)
}

// since returns those of the times, which are in order, that lie less than a
// second back.
func since(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= time.Second {
		times = times[1:]
	}
	return times
}

// full reports whether no more may be granted.
func (w *window) full(limit int) bool { return limit > 0 && len(w.granted) >= limit }

// arrive notes a request to an endpoint. It returns which limit refuses it, or
// "".
func (t *traffic) arrive(endpoint string) string {
	now := time.Now()
	one := t.endpoints[endpoint]
	if one == nil {
		one = &window{}
		t.endpoints[endpoint] = one
	}
	t.Busiest = max(t.Busiest, t.all.add(now))
	t.BusiestEndpoint = max(t.BusiestEndpoint, one.add(now))
	switch {
	case t.all.full(t.PerSecond):
		t.Refused++
		return "global-rate"
	case one.full(t.PerEndpoint):
		t.Refused++
		return "endpoint-rate"
	default:
		t.all.granted, one.granted = append(t.all.granted, now), append(one.granted, now)
		return ""
	}
}

func newTraffic(l Limits) *traffic {
	return &traffic{Traffic: Traffic{Limits: l}, endpoints: map[string]*window{}}
}

// endpoint names the endpoint of a request.
func (c *call) endpoint() string {
	if c.route == nil {
		return "unknown"
	}
	return c.route.method + " " + c.route.path
}

// overLimit returns Stripe's answer to a request beyond a limit.
func overLimit(reason string) answer {
	a := refuse(http.StatusTooManyRequests, typeInvalid, "rate_limit", "Request rate limit exceeded.").answer()
	a.limited = reason
	return a
}

// Limit sets the limits, and counts afresh. They are gone after a restart. It
// panics if a limit is negative.
func (s *Server) Limit(l Limits) {
	if err := l.check(); err != nil {
		panic("fakestripe: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traffic = newTraffic(l)
}

// Traffic returns what came since the limits were set.
func (s *Server) Traffic() Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.traffic.Traffic
}

func (s *Server) showLimits(*http.Request) (any, error) { return s.Traffic(), nil }

func (s *Server) setLimits(r *http.Request) (any, error) {
	var limits Limits
	if err := readBody(r, &limits); err != nil {
		return nil, err
	}
	if err := limits.check(); err != nil {
		return nil, err
	}
	s.Limit(limits)
	return s.showLimits(r)
}
