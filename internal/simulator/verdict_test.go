package simulator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/client"
)

// A service that keeps its promises by charging nobody has shown nothing.
func TestWhoChargesNobodyIsNotPraised(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newBroken(func(int, string) (int, string, string) { return http.StatusPaymentRequired, "", "" }))
	t.Cleanup(server.Close)
	untilEnough(t, func() bool {
		code, v, said := simulate(t, server.URL, "rr_test_x", server.URL, "--riders=5", "--duration=500ms")
		if code != 1 || v.OK || !strings.Contains(said, "no ride was charged") || strings.Contains(said, "exactly once") {
			t.Errorf("exit %d, %+v: %s", code, v, said)
		}
		return v.Declines > 0
	})
}

// A ride that waits for a person breaks no promise, but a proof in which none
// should is strict.
func TestARideUnderReviewFailsAStrictRun(t *testing.T) {
	t.Parallel()
	for name, park := range map[string]func(*wish){
		"its hail":   func(w *wish) { w.outcome, w.parked = "", true },
		"its cancel": func(w *wish) { w.cancel = cancelUnderReview },
	} {
		for _, strict := range []bool{false, true} {
			s := &simulation{command: &command{Strict: strict}, book: newBook(), line: newLine()}
			for _, ride := range []string{"ride_1", "ride_2"} {
				s.book.told(s.book.begin(client.NewRide{Key: client.NewKey()}), outcomeCharged, ride)
			}
			park(s.book.wishes[1])
			v := s.judge(nil, map[string]tally{"ride_1": {Succeeded: 1}, "ride_2": {Succeeded: 1}})
			if v.OK == strict || v.UnderReview != 1 || v.Lost != 0 {
				t.Errorf("%s, strict = %t: %+v", name, strict, v)
			}
		}
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// A cancel that begins when the time to settle is nearly over could have no
// answer in time, and would count as lost.
func TestNobodyCancelsAfterTheRiding(t *testing.T) {
	t.Parallel()
	service := newBroken(once)
	var riders sync.WaitGroup
	const n = 40 // of which 5 would
	for i := range n {
		riding, end := context.WithCancel(t.Context())
		s := &simulation{command: &command{Pace: time.Millisecond, APIURL: "http://127.0.0.1:1", APIKey: "rr_test_x"}, book: newBook(), line: newLine()}
		s.line.next = roundTrip(func(r *http.Request) *http.Response {
			end()
			answered := httptest.NewRecorder()
			service.ServeHTTP(answered, r)
			return answered.Result()
		})
		riders.Go(func() { newRider(s, i).ride(riding, t.Context()) })
	}
	riders.Wait()
	if len(service.charges) != n || len(service.refunds) > 0 {
		t.Errorf("%d rides, %d canceled", len(service.charges), len(service.refunds))
	}
}
