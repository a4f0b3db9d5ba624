package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/client"
)

var aRide = client.NewRide{Origin: client.Point{Lat: 37.7749, Lon: -122.4194}, Target: client.Point{Lat: 37.8044, Lon: -122.2712}}

func TestEveryRetryHasTheSameKeyAndBytes(t *testing.T) {
	t.Parallel()
	s := newStub(t, reset, half, page(http.StatusBadGateway), problem(500, client.CodeInternal, true, ""),
		problem(503, client.CodeUnavailable, true, "2"), problem(409, client.CodeIdempotencyKeyInUse, true, "3"),
		problem(429, client.CodeRateLimited, true, "1"), page(http.StatusOK), ok)
	answer, err := s.client(t).Create(t.Context(), aRide)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Attempts != 9 || answer.Ride.ID != "ride_1" || answer.Ride.Charge == nil || answer.Key == "" || answer.RequestID != "req_last" {
		t.Errorf("got %+v", answer)
	}
	const body = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`
	for i, sent := range s.sent {
		if got := sent.header.Get("Idempotency-Key"); got != answer.Key || sent.body != body || sent.method != http.MethodPost || sent.target != "/v1/rides" {
			t.Errorf("request %d has the key %q, want %q, and is %+v", i+1, got, answer.Key, sent)
		}
		if sent.header.Get("Authorization") != "Bearer "+apiKey {
			t.Errorf("request %d has no API key", i+1)
		}
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"2": 2 * time.Second, "30": 30 * time.Second,
		"": time.Second, "0": time.Second, "-5": time.Second, "soon": time.Second, // the formula's, whose first is always Initial
		http.TimeFormat: time.Second, // the date of Go's documentation, which is past
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, problem(503, client.CodeUnavailable, true, value), ok)
			if _, err := s.client(t).Create(t.Context(), aRide); err != nil {
				t.Fatal(err)
			}
			if len(s.pauses) != 1 || s.pauses[0] != want {
				t.Errorf("the pauses are %v, want %s", s.pauses, want)
			}
		})
	}
	t.Run("a date", func(t *testing.T) {
		t.Parallel()
		s := newStub(t, problem(503, client.CodeUnavailable, true, time.Now().Add(20*time.Second).UTC().Format(http.TimeFormat)), ok)
		if _, err := s.client(t).Create(t.Context(), aRide); err != nil {
			t.Fatal(err)
		}
		if len(s.pauses) != 1 || s.pauses[0] < 15*time.Second || s.pauses[0] > 20*time.Second {
			t.Errorf("the pauses are %v, want about 20s", s.pauses)
		}
	})
}

func TestPausesFollowTheFormula(t *testing.T) {
	t.Parallel()
	retry := client.Retry{Initial: time.Second, MaxPause: 10 * time.Second}
	for n, seconds := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 70: 10} {
		most := time.Duration(seconds) * time.Second
		var low, high int
		for range 1000 {
			pause := retry.PauseAfter(n)
			if pause < max(most/2, retry.Initial) || pause > most {
				t.Fatalf("pause %d is %s, want %s to %s", n, pause, max(most/2, retry.Initial), most)
			}
			if pause < most*3/4 {
				low++
			} else {
				high++
			}
		}
		if n > 2 && (low < 300 || high < 300) {
			t.Errorf("pause %d is in the lower half %d times, and in the upper one %d", n, low, high)
		}
	}
}

// A pause that depends on chance is not one that the same clients share.
func TestPausesGrowAndDiffer(t *testing.T) {
	t.Parallel()
	s := newStub(t, append(repeat(8, reset), ok)...)
	if _, err := s.client(t).Create(t.Context(), aRide); err != nil {
		t.Fatal(err)
	}
	if len(s.pauses) != 8 || s.pauses[0] != time.Second || s.pauses[7] < 15*time.Second || s.pauses[5] == s.pauses[6] {
		t.Errorf("the pauses are %v", s.pauses)
	}
}

func TestWhatIsNeverRepeated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		code   client.Code
		gaveUp string
	}{
		"a declined card":         {problem(402, client.CodeCardDeclined, false, ""), client.CodeCardDeclined, ""},
		"parameters":              {problem(422, client.CodeInvalidParameters, false, ""), client.CodeInvalidParameters, ""},
		"a reused key":            {problem(422, client.CodeIdempotencyKeyReused, false, ""), client.CodeIdempotencyKeyReused, ""},
		"an expired key":          {problem(422, client.CodeIdempotencyKeyExpired, false, ""), client.CodeIdempotencyKeyExpired, ""},
		"a bad API key":           {problem(401, client.CodeUnauthenticated, false, ""), client.CodeUnauthenticated, ""},
		"a proxy's 403":           {page(403), "", ""},
		"a payment under review":  {problem(409, client.CodePaymentUnderReview, true, "1"), client.CodePaymentUnderReview, "a person decides"},
		"what takes an hour":      {problem(409, client.CodeRideNotCancelable, true, "3600"), client.CodeRideNotCancelable, "Retry-After is 1h0m0s"},
		"a redirect":              {redirect, "", ""},
		"a ride that can't be it": {problem(409, client.CodeRideNotCancelable, false, ""), client.CodeRideNotCancelable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, test.answer, ok)
			answer, err := s.client(t).Create(t.Context(), aRide)
			failure, found := failed(t, err)
			if s.requests() != 1 || failure.Attempts != 1 || found.Code != test.code || failure.GaveUp != test.gaveUp {
				t.Errorf("%d requests, %q, given up for %q: %v", s.requests(), found.Code, failure.GaveUp, err)
			}
			if failure.Key == "" || failure.Key != s.sent[0].header.Get("Idempotency-Key") || answer.Key != failure.Key {
				t.Errorf("the error has the key %q, the answer %q, and the request had %q", failure.Key, answer.Key, s.sent[0].header.Get("Idempotency-Key"))
			}
		})
	}
}

func redirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
}

func TestACallGivesUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set      func(*client.Config)
		requests int
		gaveUp   string
	}{
		"after 8 retries":  {func(*client.Config) {}, 9, "no retries are left"},
		"after 2 retries":  {func(c *client.Config) { c.Retry.Max = 2 }, 3, "no retries are left"},
		"at once":          {func(c *client.Config) { c.Retry.Max = -1 }, 1, "no retries are left"},
		"with the budget":  {func(c *client.Config) { c.Retry.Budget = client.NewBudget(3, 0) }, 4, "the budget for retries is used up"},
		"without a budget": {func(c *client.Config) { c.Retry.Budget = client.NewBudget(0, 0) }, 1, "the budget for retries is used up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, repeat(20, problem(503, client.CodeUnavailable, true, "1"))...)
			_, err := s.client(t, test.set).Create(t.Context(), aRide)
			failure, found := failed(t, err)
			if s.requests() != test.requests || failure.Attempts != test.requests || failure.GaveUp != test.gaveUp || found.Code != client.CodeUnavailable {
				t.Errorf("%d requests, want %d: %v", s.requests(), test.requests, err)
			}
		})
	}
}

// However many calls fail, and of however many clients, the budget that they
// share is all that they send again; and it grows by what is answered.
func TestCallsShareABudget(t *testing.T) {
	t.Parallel()
	budget := client.NewBudget(5, 0.5)
	share := func(c *client.Config) { c.Retry.Budget = budget }
	down := newStub(t, repeat(100, reset)...)
	for range 10 {
		if _, err := down.client(t, share).Create(t.Context(), aRide); err == nil {
			t.Fatal("a call without an answer succeeds")
		}
	}
	if got := down.requests(); got != 10+5 {
		t.Errorf("10 calls sent %d requests, want 5 retries", got)
	}
	up := newStub(t, append(repeat(3, ok), problem(402, client.CodeCardDeclined, false, ""))...)
	for range 4 { // a declined card is an answer, too
		_, _ = up.client(t, share).Create(t.Context(), aRide)
	}
	down = newStub(t, repeat(100, reset)...)
	_, err := down.client(t, share).Create(t.Context(), aRide)
	if failure, _ := failed(t, err); failure.Attempts != 3 {
		t.Errorf("after 4 answers a call is sent %d times, want 2 retries", failure.Attempts)
	}
}

func TestOnlyTheOriginRetries(t *testing.T) {
	t.Parallel()
	s := newStub(t, reset, ok)
	_, err := s.client(t).Create(client.Downstream(t.Context()), aRide)
	if failure, _ := failed(t, err); s.requests() != 1 || failure.GaveUp != "only the origin retries" {
		t.Errorf("%d requests: %v", s.requests(), err)
	}
}

func TestTheEndOfTheContextEndsACall(t *testing.T) {
	t.Parallel()
	t.Run("before it is sent", func(t *testing.T) {
		t.Parallel()
		s := newStub(t, ok)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.client(t).Create(ctx, aRide)
		if failure, _ := failed(t, err); !errors.Is(err, context.Canceled) || s.requests() != 0 || failure.Key == "" {
			t.Errorf("%d requests: %v", s.requests(), err)
		}
	})
	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		s := newStub(t, problem(503, client.CodeUnavailable, true, "1"), ok)
		c := s.client(t)
		ctx, cancel := context.WithCancel(t.Context())
		c.OnPause(func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() })
		_, err := c.Create(ctx, aRide)
		failure, found := failed(t, err)
		if !errors.Is(err, context.Canceled) || found.Code != client.CodeUnavailable || s.requests() != 1 || failure.GaveUp != "the context has ended" {
			t.Errorf("%d requests: %v", s.requests(), err)
		}
	})
	t.Run("but not its outcome", func(t *testing.T) {
		t.Parallel()
		s := newStub(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.client(t, func(c *client.Config) { c.Transport = endsWithTheAnswer{cancel} }).Create(ctx, aRide)
		if failure, found := failed(t, err); ctx.Err() == nil || found.Code != client.CodeCardDeclined || failure.GaveUp != "" {
			t.Errorf("given up for %q: %v", failure.GaveUp, err)
		}
	})
	t.Run("before the pause does", func(t *testing.T) {
		t.Parallel()
		s := newStub(t, problem(503, client.CodeUnavailable, true, "20"), ok)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := s.client(t).Create(ctx, aRide)
		failure, found := failed(t, err)
		if len(s.pauses) != 0 || found.RetryAfter != 20*time.Second || failure.GaveUp != "the context ends first" {
			t.Errorf("it pauses %v: %v", s.pauses, err)
		}
	})
}

// endsWithTheAnswer ends the context when a decline is there.
type endsWithTheAnswer struct{ end func() }

func (e endsWithTheAnswer) RoundTrip(*http.Request) (*http.Response, error) {
	recorded := httptest.NewRecorder()
	problem(http.StatusPaymentRequired, client.CodeCardDeclined, false, "")(recorded, nil)
	e.end()
	return recorded.Result(), nil
}

// A server that never answers holds a call no longer than the time-out.
func TestEachAttemptHasATimeout(t *testing.T) {
	t.Parallel()
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s := newStub(t, silent, ok)
	answer, err := s.client(t, func(c *client.Config) { c.Timeout = 4 * time.Second }).Create(t.Context(), aRide)
	if err != nil || answer.Attempts != 2 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

// An endless answer is not read, and is no answer.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	endless := func(w http.ResponseWriter, _ *http.Request) {
		line := []byte(strings.Repeat(" ", 1<<16))
		for range client.MaxBody/len(line) + 1 {
			_, _ = w.Write(line)
		}
		_, _ = w.Write([]byte(chargedRide))
	}
	s := newStub(t, endless, ok)
	if answer, err := s.client(t).Create(t.Context(), aRide); err != nil || answer.Attempts != 2 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

// A server that is not who it should be is asked once, and learns nothing.
func TestAnUntrustedServerIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	s := newTLSStub(t, ok, ok)
	_, err := s.client(t).Create(t.Context(), aRide)
	if failure, _ := failed(t, err); failure.Attempts != 1 || s.requests() != 0 {
		t.Errorf("it is sent %d times, and %d arrive: %v", failure.Attempts, s.requests(), err)
	}
}
