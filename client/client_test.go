package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/client"
)

func TestEachCallHasAKeyOfItsOwnUnlessOneIsGiven(t *testing.T) {
	t.Parallel()
	s := newStub(t, repeat(4, ok)...)
	c := s.client(t)
	seen := map[string]bool{}
	for range 2 {
		answer, err := c.Create(t.Context(), aRide)
		if err != nil || len(answer.Key) != 26 || seen[answer.Key] {
			t.Errorf("got %+v, %v", answer, err)
		}
		seen[answer.Key] = true
	}
	ride := aRide
	ride.Key = `Ann's "first", \o/`
	answer, err := c.Create(t.Context(), ride)
	if got, want := s.sent[2].header.Get("Idempotency-Key"), `"Ann's \"first\", \\o/"`; err != nil || answer.Key != ride.Key || got != want {
		t.Errorf("the key is sent as %s, want %s (%v)", got, want, err)
	}
	if _, err := c.Cancel(t.Context(), "ride_1", "cancel-1"); err != nil || s.sent[3].header.Get("Idempotency-Key") != "cancel-1" || s.sent[3].body != "{}" {
		t.Errorf("canceling sends %+v, %v", s.sent[3], err)
	}
}

// Nothing is sent that the API would refuse for its form, or that would mean
// something else.
func TestMistakesAreNotSent(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	c := s.client(t)
	withKey := func(key string) client.NewRide { ride := aRide; ride.Key = key; return ride }
	for name, call := range map[string]func() error{
		"a key with a line end":  func() error { _, err := c.Create(t.Context(), withKey("a\nb")); return err },
		"a key that is too long": func() error { _, err := c.Create(t.Context(), withKey(strings.Repeat("k", 256))); return err },
		"a key in Greek":         func() error { _, err := c.Create(t.Context(), withKey("κλειδί")); return err },
		"no number": func() error {
			_, err := c.Create(t.Context(), client.NewRide{Origin: client.Point{Lat: math.NaN()}})
			return err
		},
		"reading no ride":   func() error { _, err := c.Get(t.Context(), ""); return err },
		"canceling no ride": func() error { _, err := c.Cancel(t.Context(), "", ""); return err },
	} {
		failure, _ := failed(t, call())
		if failure.Attempts != 0 || s.requests() != 0 {
			t.Errorf("%s was sent", name)
		}
	}
}

func TestAProblemHasAllThatTheAPISays(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.Header().Set("Idempotent-Replayed", "true")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusPaymentRequired)
		fmt.Fprint(w, `{"type":"/problems/card_declined","title":"Card declined","status":402,"detail":"It was declined.","code":"card_declined",
			"request_id":"req_1","retryable":false,"safe_new_key":true,"decline_code":"lost_card","errors":[{"pointer":"/origin","detail":"Must be."}],"more":1}`)
	})
	ride := aRide
	ride.Key = "k"
	_, err := s.client(t).Create(t.Context(), ride)
	_, got := failed(t, err)
	want := client.Problem{
		Type: "/problems/card_declined", Title: "Card declined", Status: 402, Detail: "It was declined.", Code: client.CodeCardDeclined,
		RequestID: "req_1", SafeNewKey: true, DeclineCode: "lost_card", Errors: []client.Fault{{Pointer: "/origin", Detail: "Must be."}},
		RetryAfter: 7 * time.Second, Replayed: true,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if want := `hailing a ride: 402 Card declined (card_declined): It was declined. /origin: Must be. [key "k"]`; err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
}

// What a proxy answers says nothing about the ride, whatever it claims.
func TestNoNewKeyIsSafeAfterAProxysAnswer(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"code":"card_declined","safe_new_key":true,"retryable":false}`)
	})
	_, err := s.client(t).Create(t.Context(), aRide)
	if _, got := failed(t, err); got.SafeNewKey || got.Code != "" || got.Status != http.StatusForbidden {
		t.Errorf("got %+v", got)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	other := newStub(t, repeat(5, ok)...)
	s := newStub(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.url+"/v1/rides", http.StatusTemporaryRedirect)
	})
	_, err := s.client(t).Create(t.Context(), aRide)
	if _, got := failed(t, err); got.Status != http.StatusTemporaryRedirect || other.requests() != 0 {
		t.Errorf("%d requests went elsewhere: %v", other.requests(), err)
	}
}

// transport is a hook: it adds a header to each attempt.
type transport struct{ attempts int }

func (h *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	h.attempts++
	r = r.Clone(r.Context())
	r.Header.Set("Traceparent", fmt.Sprintf("00-%032d-%016d-01", 1, h.attempts))
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

func TestTheTransportSeesEachAttempt(t *testing.T) {
	t.Parallel()
	s, hook := newStub(t, reset, ok), new(transport)
	if _, err := s.client(t, func(c *client.Config) { c.Transport = hook }).Create(t.Context(), aRide); err != nil {
		t.Fatal(err)
	}
	if hook.attempts != 2 || s.sent[1].header.Get("Traceparent") != "00-00000000000000000000000000000001-0000000000000002-01" {
		t.Errorf("%d attempts, the last with %v", hook.attempts, s.sent[1].header)
	}
}

func TestNothingShowsTheAPIKey(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	c := s.client(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if shown := fmt.Sprintf(format, c) + fmt.Sprintf(format, *c); strings.Contains(shown, apiKey) {
			t.Errorf("%s shows the API key", format)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]client.Config{
		"no URL":               {APIKey: apiKey},
		"no scheme":            {URL: "rides.example.com", APIKey: apiKey},
		"another scheme":       {URL: "ftp://rides.example.com", APIKey: apiKey},
		"a password":           {URL: "https://ann:secret@rides.example.com", APIKey: apiKey},
		"a query":              {URL: "https://rides.example.com?x=1", APIKey: apiKey},
		"no API key":           {URL: "https://rides.example.com"},
		"two lines":            {URL: "https://rides.example.com", APIKey: apiKey + "\nX: y"},
		"a negative time-out":  {URL: "https://rides.example.com", APIKey: apiKey, Timeout: -1},
		"pauses that shrink":   {URL: "https://rides.example.com", APIKey: apiKey, Retry: client.Retry{MaxPause: time.Millisecond}},
		"a negative first one": {URL: "https://rides.example.com", APIKey: apiKey, Retry: client.Retry{Initial: -1}},
	} {
		_, err := client.New(config)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), apiKey) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	s := newStub(t, ok)
	if _, err := s.client(t, func(c *client.Config) { c.URL += "/below/" }).Get(t.Context(), "a/b c"); err != nil || s.sent[0].target != "/below/v1/rides/a%2Fb%20c" {
		t.Errorf("the target is %s, %v", s.sent[0].target, err)
	}
}

func list(more bool, ids ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		page := struct {
			Object  string        `json:"object"`
			Data    []client.Ride `json:"data"`
			HasMore bool          `json:"has_more"`
		}{"list", []client.Ride{}, more}
		for _, id := range ids {
			page.Data = append(page.Data, client.Ride{ID: id, Object: "ride"})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(page)
	}
}

func TestListReadsPageAfterPage(t *testing.T) {
	t.Parallel()
	s := newStub(t, list(true, "ride_4", "ride_3"), reset, list(false, "ride_2", "ride_1"))
	var ids []string
	for ride, err := range s.client(t).List(t.Context(), client.ListOptions{PageSize: 2, Key: "k", After: "ride_5"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, ride.ID)
	}
	if got := strings.Join(ids, " "); got != "ride_4 ride_3 ride_2 ride_1" {
		t.Errorf("the rides are %s", got)
	}
	if s.sent[0].target != "/v1/rides?idempotency_key=k&limit=2&starting_after=ride_5" || s.sent[2].target != "/v1/rides?idempotency_key=k&limit=2&starting_after=ride_3" {
		t.Errorf("the pages are %s and %s", s.sent[0].target, s.sent[2].target)
	}
}

func TestListEndsWithItsReaderAndWithAnError(t *testing.T) {
	t.Parallel()
	s := newStub(t, list(true, "ride_2", "ride_1"), problem(401, client.CodeUnauthenticated, false, ""))
	c := s.client(t)
	for _, err := range c.List(t.Context(), client.ListOptions{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if s.requests() != 1 {
		t.Errorf("%d pages were read for one ride", s.requests())
	}
	var failures int
	for _, err := range c.List(t.Context(), client.ListOptions{}) {
		failures++
		if failure, _ := failed(t, err); failure.Op != "listing rides" {
			t.Errorf("got %v", err)
		}
	}
	if failures != 1 {
		t.Errorf("%d errors, want one", failures)
	}
	// A page that goes nowhere must not be read for ever.
	s = newStub(t, repeat(20, list(true))...)
	for _, err := range s.client(t).List(t.Context(), client.ListOptions{}) {
		if err == nil {
			t.Fatal("an empty page that has more is believed")
		}
	}
}

// rideIn answers with a ride of a status, and says whether it waited.
func rideIn(status client.Status, refund string, waited bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if waited {
			w.Header().Set("Preference-Applied", "wait=30")
		}
		fmt.Fprintf(w, `{"id":"ride_1","object":"ride","status":%q,"refund":%s}`, status, refund)
	}
}

func TestWaitReturnsWhenTheRideIsAtRest(t *testing.T) {
	t.Parallel()
	s := newStub(t, rideIn("pending", "null", true), reset, rideIn("pending", "null", false), rideIn("pending", "null", false),
		rideIn("charged", `{"id":"re_1","status":"pending"}`, true), rideIn("canceled", `{"id":"re_1","status":"succeeded"}`, true))
	ride, err := s.client(t).Wait(t.Context(), "ride_1")
	if err != nil || ride.Status != client.StatusCanceled || s.requests() != 6 {
		t.Errorf("after %d requests: %+v, %v", s.requests(), ride, err)
	}
	for _, sent := range s.sent {
		if sent.header.Get("Prefer") != "wait=30" {
			t.Errorf("a request prefers %q", sent.header.Get("Prefer"))
		}
	}
	// The pauses: one after a wait, one after the lost connection, and growing
	// ones while the API doesn't let the client wait.
	if len(s.pauses) != 5 || s.pauses[0] != time.Second || s.pauses[3] < time.Second {
		t.Errorf("the pauses are %v", s.pauses)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newStub(t, rideIn("pending", "null", true))
	c := s.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.OnPause(func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() })
	ride, err := c.Wait(ctx, "ride_1")
	if failure, _ := failed(t, err); failure.Op != "waiting for a ride" || !errors.Is(err, context.Canceled) || ride.Status != client.StatusPending {
		t.Errorf("got %+v, %v", ride, err)
	}
}

func TestAtRest(t *testing.T) {
	t.Parallel()
	for status, want := range map[client.Status]bool{
		client.StatusPending: false, client.StatusCharged: true, client.StatusDeclined: true,
		client.StatusUnderReview: true, client.StatusCanceled: true, "something new": false,
	} {
		if got := (client.Ride{Status: status}).AtRest(); got != want {
			t.Errorf("%s is at rest: %t", status, got)
		}
	}
	if (client.Ride{Status: client.StatusCharged, Refund: &client.Refund{Status: client.RefundPending}}).AtRest() {
		t.Error("a ride with a pending refund is at rest")
	}
}
