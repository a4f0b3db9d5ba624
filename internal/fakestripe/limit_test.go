package fakestripe

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// No second sees more than the limits, wherever it begins, and all that they
// allow is taken.
func TestLimitsHoldInEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		traffic := newTraffic(Limits{PerSecond: 25, PerEndpoint: 10})
		taken := map[string][]time.Time{}
		for range 60 * 100 {
			for _, endpoint := range []string{"a", "b", "c", "d"} {
				if traffic.arrive(endpoint) == "" {
					taken[endpoint] = append(taken[endpoint], time.Now())
					taken[""] = append(taken[""], time.Now())
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		for endpoint, times := range taken {
			limit := 10
			if endpoint == "" {
				limit = 25
			}
			for i := range times {
				if n, _ := slices.BinarySearchFunc(times[i:], times[i].Add(time.Second), time.Time.Compare); n > limit {
					t.Fatalf("%q: %d were taken within a second", endpoint, n)
				}
			}
		}
		if got := len(taken[""]); got != 60*25 {
			t.Errorf("%d were taken in a minute, want %d", got, 60*25)
		}
		if traffic.Busiest != 400 || traffic.BusiestEndpoint != 100 || traffic.Refused != 4*6000-60*25 {
			t.Errorf("it has seen %+v", traffic.Traffic)
		}
	})
}

// What is beyond a limit is answered as Stripe answers it, and is not done.
func TestALimitRefuses(t *testing.T) {
	t.Parallel()
	for reason, limits := range map[string]Limits{"global-rate": {PerSecond: 1}, "endpoint-rate": {PerSecond: 1000, PerEndpoint: 1}} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{Limits: limits})
			for range 100 {
				r := f.post(t, intents, "k", hail("r"))
				if r.status == http.StatusOK {
					continue
				}
				r.want(t, 429, "error.code", "rate_limit", "error.type", "invalid_request_error")
				r.wantHeader(t, "Stripe-Rate-Limited-Reason", reason, "Idempotent-Replayed", "", "Retry-After", "")
				f.wantCharges(t, "r", 1)
				if seen := f.Traffic(); seen.Refused != 1 || seen.Busiest < 2 || seen.BusiestEndpoint < 2 {
					t.Errorf("the fake has seen %+v", seen)
				}
				return
			}
			t.Error("100 requests in a row are taken")
		})
	}
}

func TestLimitsAreSetOverHTTP(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.control(t, http.MethodGet, "/_fake/limits", "").want(t, 200, "per_second", "0", "per_endpoint", "0", "busiest", "0")
	f.post(t, intents, "", hail("r")).want(t, 200)
	f.control(t, http.MethodGet, "/_fake/limits", "").want(t, 200, "busiest", "1", "busiest_endpoint", "1", "refused", "0")
	f.control(t, http.MethodPost, "/_fake/limits", `{"per_second":25,"per_endpoint":5}`).
		want(t, 200, "per_second", "25", "per_endpoint", "5", "busiest", "0")
	for _, bad := range []string{`{"per_second":-1}`, `{"per_endpoint":-1}`, `{"per_second":"many"}`, `{"other":1}`, ``} {
		f.control(t, http.MethodPost, "/_fake/limits", bad).want(t, 400)
	}
	f.control(t, http.MethodPost, "/_fake/reset", "").want(t, 200)
	f.control(t, http.MethodGet, "/_fake/limits", "").want(t, 200, "per_second", "25", "busiest", "0")
	if _, err := Open(Options{Limits: Limits{PerSecond: -1}}); err == nil {
		t.Error("a fake opens with a negative limit")
	}
}
