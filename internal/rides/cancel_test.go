package rides

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// cancelAs cancels a ride, without a body.
func (p *process) cancelAs(t *testing.T, who accounts.Credentials, ride, key string) reply {
	t.Helper()
	return p.send(t, call{method: "POST", path: "/v1/rides/" + ride + "/cancel", key: key, as: who})
}

// rideAs reads a ride.
func (p *process) rideAs(t *testing.T, who accounts.Credentials, ride string) Ride {
	t.Helper()
	return p.send(t, call{method: "GET", path: "/v1/rides/" + ride, as: who}).must(t, 200, "").ride
}

// charged hails a ride for visa under the key "hail" and returns it.
func (h *harness) charged(t *testing.T) Ride {
	t.Helper()
	return h.hailAs(t, h.visa, "hail").must(t, 201, "").ride
}

// onRefund makes a fault strike the next refund.
func (h *harness) onRefund(kind fakestripe.Kind, change func(*fakestripe.Fault)) {
	fault := fakestripe.Fault{Kind: kind, Match: fakestripe.Match{Path: "/v1/refunds"}}
	if change != nil {
		change(&fault)
	}
	h.fake.Script(fault)
}

// refundsAs makes the next refund get a status.
func (h *harness) refundsAs(status string) {
	h.onRefund(fakestripe.RefundOutcome, func(f *fakestripe.Fault) { f.Refund = status })
}

// wantNoKey checks that a refused request left no key.
func (h *harness) wantNoKey(t *testing.T, key string) {
	t.Helper()
	if n := number(t, h, `SELECT count(*) FROM idempotency_keys WHERE key = $1`, key); n != 0 {
		t.Errorf("the key %s has a row", key)
	}
}

// mustNow stops the test unless a cancel was refused for the moment, which is
// not stored.
func (h *harness) mustNow(t *testing.T, r reply, key string) {
	t.Helper()
	r.must(t, 409, web.CodeRideNotCancelable)
	if r.header.Get("Retry-After") == "" || !r.problem.Retryable || r.problem.SafeNewKey || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("not refused for the moment: %v %s", r.header, r.body)
	}
	h.wantNoKey(t, key)
}

// mustStored stops the test unless a cancel is refused for good.
func (p *process) mustStored(t *testing.T, who accounts.Credentials, ride, key string) {
	t.Helper()
	first := p.cancelAs(t, who, ride, key).must(t, 409, web.CodeRideNotCancelable)
	again := p.cancelAs(t, who, ride, key).must(t, 409, web.CodeRideNotCancelable)
	if first.header.Get("Retry-After") != "" || first.problem.Retryable || first.problem.SafeNewKey ||
		again.header.Get("Idempotent-Replayed") != "true" || again.body != first.body {
		t.Errorf("not refused for good: %v %s, then %v %s", first.header, first.body, again.header, again.body)
	}
}

// checkCanceled checks everything that must be true of a ride that was canceled
// under a key, in the database and at Stripe.
func (h *harness) checkCanceled(t *testing.T, who accounts.Credentials, id, key string) {
	t.Helper()
	ride := h.rideAs(t, who, id)
	if ride.Status != StatusCanceled || ride.Refund == nil || ride.Refund.Status != "succeeded" || ride.Refund.Money != ride.Fare {
		t.Fatalf("the ride is %s with refund %+v", ride.Status, ride.Refund)
	}
	var back int64
	for _, refund := range h.fake.Refunds() {
		if refund.Intent == ride.Charge.PaymentIntent && refund.Status == "succeeded" {
			back += refund.Amount
		}
	}
	if back != ride.Fare.Amount {
		t.Errorf("Stripe gave %d back, want %d", back, ride.Fare.Amount)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM idempotency_keys WHERE recovery_point = 'finished' AND response_status = 200 AND account_id = $1 AND key = $2`:            1,
		`SELECT count(*) FROM rides WHERE cancel_key = $2 AND account_id = $1`:                                                                          1,
		`SELECT count(*) FROM staged_jobs WHERE kind = 'receipt' AND args->>'event' = 'canceled' AND account_id = $1 AND key = $2`:                      1,
		`SELECT count(*) FROM staged_jobs WHERE args->>'event' = 'canceled' AND account_id = $1 AND key <> $2 AND args->>'ride_id' = '` + ride.ID + `'`: 0,
	} {
		if n := number(t, h, sql, who.AccountID, key); n != want {
			t.Errorf("%d rows, want %d: %s", n, want, sql)
		}
	}
	h.checkRefundSends(t)
}

// checkRefundSends checks that all refunds under one key had the same bytes, and
// named no amount (I6).
func (h *harness) checkRefundSends(t *testing.T) {
	t.Helper()
	bodies := map[string]string{}
	for _, send := range h.fake.Ledger() {
		if send.Path != "/v1/refunds" {
			continue
		}
		if send.Key == "" || send.Params["metadata[operation]"] != send.Key || len(send.Params) != 4 || send.Params["payment_intent"] == "" {
			t.Errorf("a refund was sent under %q as %v", send.Key, send.Params)
		}
		if first, ok := bodies[send.Key]; ok && first != send.Body {
			t.Errorf("one key was sent with %q and with %q", first, send.Body)
		}
		bodies[send.Key] = send.Body
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, settings...)
			hook := `{"callback_url":"https://example.com/hook",` + aRide[1:]
			ride := h.send(t, call{method: "POST", path: "/v1/rides", body: hook, key: "hail", as: h.visa}).must(t, 201, "").ride
			first := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
			if first.header.Get("Idempotency-Key") != "k" || first.header.Get("Idempotent-Replayed") != "" {
				t.Errorf("headers are %v", first.header)
			}
			want := ride
			want.Status, want.Refund = StatusCanceled, &Refund{ID: h.fake.Refunds()[0].ID, Status: "succeeded", Money: ride.Fare}
			if d := cmp.Diff(want, first.ride); d != "" {
				t.Errorf("the ride (-want +got):\n%s", d)
			}
			for _, body := range []string{"", "{}", " { } "} { // no body equals {}
				again := h.send(t, call{method: "POST", path: "/v1/rides/" + ride.ID + "/cancel", body: body, key: "k", as: h.visa}).must(t, 200, "")
				if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("the body %q is answered %q, %v", body, again.body, again.header)
				}
			}
			if d := cmp.Diff(want, h.rideAs(t, h.visa, ride.ID)); d != "" {
				t.Errorf("GET (-want +got):\n%s", d)
			}
			// What the hail was answered stays.
			if again := h.send(t, call{method: "POST", path: "/v1/rides", body: hook, key: "hail", as: h.visa}).must(t, 201, ""); again.ride.Status != StatusCharged || again.ride.Refund != nil {
				t.Errorf("the hail is answered %s", again.body)
			}
			h.checkCanceled(t, h.visa, ride.ID, "k")
			var shown Ride
			var text string
			if err := h.pool.QueryRow(t.Context(), `SELECT args->>'ride' FROM staged_jobs WHERE kind = 'callback' AND key = 'k' AND args->>'type' = 'ride.canceled'`).Scan(&text); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(text), &shown); err != nil || cmp.Diff(want, shown) != "" {
				t.Errorf("the callback shows %s, %v", text, err)
			}
		})
	}
}

// TestACancelMayHaveABodyOfUnknownLength: clients that stream their bodies send
// none as one of unknown length.
func TestACancelMayHaveABodyOfUnknownLength(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	for body, status := range map[string]int{"": 200, "{}": 200, " ": 400, `{"a":1}`: 422} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.api+"/v1/rides/"+ride.ID+"/cancel", io.NopCloser(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Authorization": {"Bearer " + h.visa.APIKey.Reveal()}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"}}
		if body == "" {
			request.Header.Del("Content-Type")
		}
		response, err := h.roundTrip(t, request)
		if err != nil {
			t.Fatal(err)
		}
		if _ = response.Body.Close(); response.StatusCode != status {
			t.Errorf("a body %q of unknown length is answered %d, want %d", body, response.StatusCode, status)
		}
	}
}

// TestTwentyCancelsRefundOnce: of many keys that cancel one ride, one refunds.
func TestTwentyCancelsRefundOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	other := h.startProcess(t, nil)
	ride := h.charged(t)
	answers := make([]reply, 20)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() {
			answers[i] = []*process{h.process, other}[i%2].cancelAs(t, h.visa, ride.ID, fmt.Sprint("k", i))
		})
	}
	group.Wait()
	winner := ""
	for i, r := range answers {
		switch {
		case r.status == 200:
			winner = fmt.Sprint(winner, "k", i)
		case r.status != 409 || r.problem.Code != web.CodeRideNotCancelable:
			t.Errorf("got %d %s", r.status, r.body)
		}
	}
	h.checkCanceled(t, h.visa, ride.ID, winner)
	if n := len(h.fake.Refunds()); n != 1 {
		t.Errorf("Stripe has %d refunds, want one", n)
	}
	if sends := number(t, h, `SELECT count(*) FROM idempotency_keys WHERE first_sent_at IS NOT NULL AND flow = 'cancel'`); sends != 1 {
		t.Errorf("%d keys have sent a refund, want one", sends)
	}
}

// TestACancelUnderWayHoldsItsRide: while nobody knows whether a key has given
// the money back, no other key may send a refund.
func TestACancelUnderWayHoldsItsRide(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	h.onRefund(fakestripe.DropBefore, nil)
	h.cancelAs(t, h.visa, ride.ID, "first").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.mustNow(t, h.cancelAs(t, h.visa, ride.ID, "second"), "second")
	h.expire(t)
	h.cancelAs(t, h.visa, ride.ID, "first").must(t, 200, "")
	h.checkCanceled(t, h.visa, ride.ID, "first")
}

func TestSomeRidesCannotBeCanceled(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	h.mustStored(t, h.declined, rideID(h.declined.AccountID, "k"), "c")
	ride := h.charged(t)
	h.cancelAs(t, h.second, ride.ID, "other").must(t, 404, web.CodeNotFound)
	h.cancelAs(t, h.visa, "ride_none", "none").must(t, 404, web.CodeNotFound)
	h.cancelAs(t, h.visa, "ride_%00", "nul").must(t, 404, web.CodeNotFound)
	for _, key := range []string{"other", "none", "nul"} {
		h.wantNoKey(t, key)
	}
	h.cancelAs(t, h.visa, ride.ID, "first").must(t, 200, "")
	h.mustStored(t, h.visa, ride.ID, "second")
	if n := len(h.fake.Refunds()); n != 1 {
		t.Errorf("Stripe has %d refunds, want one", n)
	}
}

// TestSomeRidesCannotBeCanceledYet: what may pass is not stored, and leaves no
// key.
func TestSomeRidesCannotBeCanceledYet(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	id := rideID(h.visa.AccountID, "hail")
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "hail").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.mustNow(t, h.cancelAs(t, h.visa, id, "c"), "c") // pending
	if err := (phases.Keys{Pool: h.pool}).Park(t.Context(), h.key(t, h.visa, "hail"), "ann"); err != nil {
		t.Fatal(err)
	}
	h.mustNow(t, h.cancelAs(t, h.visa, id, "c"), "c") // under review
	if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), h.key(t, h.visa, "hail"), "ann"); err != nil {
		t.Fatal(err)
	}
	// Charged, but the hail has no answer yet: it would show a canceled ride.
	h.exec(t, `ALTER TABLE staged_jobs ADD CONSTRAINT closed CHECK (false) NOT VALID`)
	h.hailAs(t, h.visa, "hail").must(t, 500, web.CodeInternal)
	if ride := h.rideAs(t, h.visa, id); ride.Status != StatusCharged {
		t.Fatalf("the ride is %s", ride.Status)
	}
	h.mustNow(t, h.cancelAs(t, h.visa, id, "c"), "c")
	h.exec(t, `ALTER TABLE staged_jobs DROP CONSTRAINT closed`)
	h.hailAs(t, h.visa, "hail").must(t, 201, "")
	h.cancelAs(t, h.visa, id, "c").must(t, 200, "")
	h.checkCanceled(t, h.visa, id, "c")
}

// TestNoAnswerToACancelCallsANewKeySafe: a new key never charges here, and a
// client that reads the member in one place must not read it here as "nothing
// happened".
func TestNoAnswerToACancelCallsANewKeySafe(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	path := "/v1/rides/" + ride.ID + "/cancel"
	for name, c := range map[string]struct {
		call   call
		status int
		code   web.Code
	}{
		"no key":              {call{key: ""}, 400, web.CodeIdempotencyKeyMissing},
		"an invalid key":      {call{key: "a,b"}, 400, web.CodeIdempotencyKeyInvalid},
		"a body with members": {call{key: "k", body: `{"why":1,"amount":5}`}, 422, web.CodeInvalidParameters},
		"a body of an array":  {call{key: "k", body: `[]`}, 400, web.CodeInvalidJSON},
		"no API key":          {call{key: "k", as: accounts.Credentials{AccountID: "x"}}, 401, web.CodeUnauthenticated},
	} {
		c.call.method, c.call.path = "POST", path
		if c.call.as.AccountID == "" {
			c.call.as = h.visa
		}
		r := h.send(t, c.call)
		if r.must(t, c.status, c.code); r.problem.SafeNewKey {
			t.Errorf("%s: %s", name, r.body)
		}
		if c.code == web.CodeInvalidParameters && len(r.problem.Errors) != 2 {
			t.Errorf("the faults are %v", r.problem.Errors)
		}
	}
	h.wantNoKey(t, "k")
	h.hailAs(t, h.visa, "reused").must(t, 201, "")
	if r := h.cancelAs(t, h.visa, ride.ID, "reused").must(t, 422, web.CodeIdempotencyKeyReused); r.problem.SafeNewKey {
		t.Error("a reused key calls a new one safe")
	}
}

func TestAPendingRefund(t *testing.T) {
	t.Parallel()
	pending := func(t *testing.T, settings ...setting) (*harness, Ride) {
		t.Helper()
		h := newHarness(t, settings...)
		ride := h.charged(t)
		h.refundsAs("pending")
		for range 2 { // a retry asks again
			r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
			if r.ride.Status != StatusCharged || r.ride.Refund == nil || r.ride.Refund.Status != "pending" || r.ride.Refund.Money != ride.Fare ||
				r.header.Get("Location") != "/v1/rides/"+ride.ID || r.header.Get("Retry-After") == "" {
				t.Fatalf("answered %v %s", r.header, r.body)
			}
		}
		if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || seen.Refund == nil || seen.Refund.Status != "pending" {
			t.Errorf("the ride is %+v", seen)
		}
		h.mustNow(t, h.cancelAs(t, h.visa, ride.ID, "other"), "other")
		return h, ride
	}
	change := func(t *testing.T, h *harness, status string) {
		t.Helper()
		if err := h.fake.ChangeRefund(h.fake.Refunds()[0].ID, status); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("succeeds, and the client's retry finds out", func(t *testing.T) {
		t.Parallel()
		h, ride := pending(t)
		change(t, h, "succeeded")
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})

	t.Run("is asked about each minute by a client, however seldom the completer asks", func(t *testing.T) {
		t.Parallel()
		h, ride := pending(t)
		h.exec(t, `UPDATE idempotency_keys SET attempts = 20 WHERE key = 'k'`)
		r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 202, "")
		if got := r.header.Get("Retry-After"); got != "60" {
			t.Errorf("Retry-After is %q, want the minute of every foreign wait", got)
		}
	})

	t.Run("succeeds after it required action, and the completer finds out", func(t *testing.T) {
		t.Parallel()
		h, ride := pending(t, stepwise)
		change(t, h, "requires_action")
		h.expire(t)
		if counts := h.complete(t); counts.Released != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		change(t, h, "succeeded")
		h.expire(t)
		if counts := h.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		if r.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the answer is new: %v", r.header)
		}
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})

	for _, status := range []string{"failed", "canceled"} {
		t.Run(status+", and the ride is free for another key", func(t *testing.T) {
			t.Parallel()
			h, ride := pending(t)
			change(t, h, status)
			h.mustStored(t, h.visa, ride.ID, "k")
			if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || seen.Refund == nil || seen.Refund.Status != "failed" {
				t.Errorf("the ride is %s with %+v", seen.Status, seen.Refund)
			}
			h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
			h.checkCanceled(t, h.visa, ride.ID, "other")
		})
	}

	t.Run("that never ends is parked when the window is over, and the ride stays charged", func(t *testing.T) {
		t.Parallel()
		h, ride := pending(t)
		h.exec(t, `UPDATE idempotency_keys SET first_sent_at = now() - interval '21 hours' WHERE key = 'k'`)
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodePaymentUnderReview)
		if parked := h.key(t, h.visa, "k"); parked.ParkedReason != "window_over" {
			t.Errorf("parked for %q", parked.ParkedReason)
		}
		if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || seen.Refund == nil || seen.Refund.Status != "pending" {
			t.Errorf("the ride is %s with %+v", seen.Status, seen.Refund)
		}
		change(t, h, "succeeded")
		if err := (phases.Keys{Pool: h.pool}).Retry(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
			t.Fatal(err)
		}
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
	})
}

// TestARefundFromTheDashboardIsAdopted: what was given back is not given back
// again, whoever did it.
func TestARefundFromTheDashboardIsAdopted(t *testing.T) {
	t.Parallel()
	for name, amounts := range map[string][]int64{"all": {0}, "a part": {500}, "two parts": {500, 300}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			ride := h.charged(t)
			for _, amount := range amounts {
				if _, err := h.fake.DashboardRefund(ride.Charge.PaymentIntent, amount); err != nil {
					t.Fatal(err)
				}
			}
			h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
			h.checkCanceled(t, h.visa, ride.ID, "k")
		})
	}
}

func TestADisputedRideIsNotCanceled(t *testing.T) {
	t.Parallel()
	dispute := func(t *testing.T, h *harness, ride Ride, status string) {
		t.Helper()
		if err := h.fake.Dispute(ride.Charge.PaymentIntent, status); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("while the dispute lasts", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		ride := h.charged(t)
		dispute(t, h, ride, "needs_response")
		for range 2 { // of which the second knows of the dispute
			h.mustNow(t, h.cancelAs(t, h.visa, ride.ID, "k"), "k")
			if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || !seen.Disputed {
				t.Errorf("the ride is %s, disputed %t", seen.Status, seen.Disputed)
			}
		}
		dispute(t, h, ride, "won")
		h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
		h.checkCanceled(t, h.visa, ride.ID, "k")
		if h.rideAs(t, h.visa, ride.ID).Disputed {
			t.Error("the ride is still disputed")
		}
	})
	t.Run("but an inquiry doesn't keep it from that", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		ride := h.charged(t)
		dispute(t, h, ride, "warning_needs_response")
		if r := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, ""); !r.ride.Disputed {
			t.Errorf("answered %s", r.body)
		}
	})
	t.Run("when the dispute comes in between", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		ride := h.charged(t)
		h.onRefund(fakestripe.BadRequest400, func(f *fakestripe.Fault) { f.Code = "charge_disputed" })
		h.mustStored(t, h.visa, ride.ID, "k")
		if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || !seen.Disputed || seen.Refund != nil {
			t.Errorf("the ride is %s, disputed %t, with %+v", seen.Status, seen.Disputed, seen.Refund)
		}
		h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "") // Stripe lists no dispute any more
		h.checkCanceled(t, h.visa, ride.ID, "other")
	})
	t.Run("when Stripe can't be asked first", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		ride := h.charged(t)
		dispute(t, h, ride, "")
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: http.MethodGet, Path: "/v1/disputes"}})
		h.mustStored(t, h.visa, ride.ID, "k")
		dispute(t, h, ride, "warning_closed")
		h.cancelAs(t, h.visa, ride.ID, "other").must(t, 200, "")
	})
}

// seeing is a transport that notes for which account a path is asked.
type seeing struct {
	path     string
	accounts chan string
}

// RoundTrip implements http.RoundTripper.
func (s seeing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == s.path {
		s.accounts <- phases.CallerOf(r.Context()).Account
	}
	return http.DefaultTransport.RoundTrip(r)
}

// Where many requests wait for their turn at Stripe, those of one account don't
// hold up those of others: also those that ask for disputes.
func TestDisputesAreAskedForInTheAccountsTurn(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	seen := seeing{"/v1/disputes", make(chan string, 1)}
	stripe, err := payments.NewStripe(payments.Config{
		Key: stripeKey, URL: h.stripe, Transport: seen, Timeout: 10 * time.Second, Saved500After: time.Hour, Logger: h.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.service.stripe = stripe
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
	if account := <-seen.accounts; account != h.visa.AccountID {
		t.Errorf("Stripe was asked for %q, want %q", account, h.visa.AccountID)
	}
}

// What one reader has seen at Stripe is not written over what another has
// stored since that reader began.
func TestAnOlderSightOfADisputeIsNotStored(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	account := h.visa.AccountID
	began, err := h.service.refundable(t.Context(), account, ride.ID)
	if err != nil {
		t.Fatal(err)
	}
	newer := payments.Dispute{Open: true, Refuses: true}
	for _, seen := range []payments.Dispute{newer, {}} {
		if err := h.service.showDispute(t.Context(), account, ride.ID, began.epoch, seen); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := h.service.refundable(t.Context(), account, ride.ID)
	if err != nil || stored.dispute != newer || stored.epoch == began.epoch {
		t.Errorf("the ride began as %+v and is stored as %+v, %v", began, stored, err)
	}
}

func TestARefundIsMadeOnceThroughAnyTrouble(t *testing.T) {
	t.Parallel()
	for name, change := range map[fakestripe.Kind]func(*fakestripe.Fault){
		fakestripe.DropBefore: nil, fakestripe.DropAfter: nil, fakestripe.Unsaved500: nil, fakestripe.Truncated200: nil, fakestripe.Empty200: nil,
		fakestripe.InUse409: nil, fakestripe.LockTimeout: nil, fakestripe.RateLimited429: nil, fakestripe.Unauthorized401: nil,
		fakestripe.BadGateway502: nil, fakestripe.Unavailable503: nil, fakestripe.Saved500WithEffect: nil,
		fakestripe.BadRequest400: func(f *fakestripe.Fault) { f.Code = "balance_insufficient" },
	} {
		for mode, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
			t.Run(string(name)+" "+mode, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t, settings...)
				ride := h.charged(t)
				h.onRefund(name, change)
				if r := h.cancelAs(t, h.visa, ride.ID, "k"); r.status != 503 && name != fakestripe.Saved500WithEffect {
					t.Errorf("answered %d %s", r.status, r.body)
				}
				pgtest.Eventually(t, "the cancel is done", func() bool {
					h.expire(t)
					return h.cancelAs(t, h.visa, ride.ID, "k").status == 200
				})
				h.checkCanceled(t, h.visa, ride.ID, "k")
				if n := len(h.fake.Refunds()); n != 1 {
					t.Errorf("Stripe has %d refunds, want one", n)
				}
			})
		}
	}
}

// TestAForgottenCancelIsFinished: the client goes away, and the completer gives
// the money back, also while charges are off.
func TestAForgottenCancelIsFinished(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *phases.Config) { c.Paused = ChargeFlows() })
	ride := h.startProcess(t, nil).hailAs(t, h.visa, "hail").must(t, 201, "").ride
	h.onRefund(fakestripe.DropAfter, nil)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.expire(t)
	completer := phases.Completer{Engine: h.engine, Poll: time.Millisecond, Concurrency: 8, Retention: 72 * time.Hour, Tombstones: 720 * time.Hour}
	if counts, err := completer.Once(t.Context()); err != nil || counts.Finished != 1 {
		t.Errorf("the completer did %+v, %v", counts, err)
	}
	h.checkCanceled(t, h.visa, ride.ID, "k")
	h.hailAs(t, h.visa, "new").must(t, 503, web.CodeUnavailable)
}

// TestAReplayThatWasSpoiltIsAskedForAgain: the next one shows the answer that
// Stripe has saved. A look-up of a declined card would show no end.
func TestAReplayThatWasSpoiltIsAskedForAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}, fakestripe.Fault{Kind: fakestripe.Empty200})
	for range 2 {
		h.hailAs(t, h.declined, "k").must(t, 503, "payment_processor_unavailable")
	}
	h.hailAs(t, h.declined, "k").must(t, 402, "card_declined")
}

// TestASavedAnswerThatCannotBeReadIsLookedUp: Stripe repeats such an answer as
// often as it is asked, so only a look-up shows what was done.
func TestASavedAnswerThatCannotBeReadIsLookedUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	foreign := fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"object": "thing"}}
	foreign.Match.Path = "/v1/payment_intents"
	h.fake.Script(foreign)
	h.hailAs(t, h.visa, "k").must(t, 503, "payment_processor_unavailable")
	ride := h.hailAs(t, h.visa, "k").must(t, 201, "").ride
	foreign.Match.Path = "/v1/refunds"
	h.fake.Script(foreign)
	h.cancelAs(t, h.visa, ride.ID, "cancel").must(t, 503, "payment_processor_unavailable")
	h.cancelAs(t, h.visa, ride.ID, "cancel").must(t, 200, "")
	h.checkCanceled(t, h.visa, ride.ID, "cancel")
}

// TestAnAnswerAboutAnotherPaymentIsParked: a ride is canceled only by a refund
// of its own payment.
func TestAnAnswerAboutAnotherPaymentIsParked(t *testing.T) {
	t.Parallel()
	for field, value := range map[string]any{"payment_intent": "pi_other", "amount": 1 << 40, "currency": "eur", "metadata": map[string]any{}} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			ride := h.charged(t)
			h.onRefund(fakestripe.OtherObject, func(f *fakestripe.Fault) { f.Set = map[string]any{field: value} })
			h.cancelAs(t, h.visa, ride.ID, "k").must(t, 409, web.CodePaymentUnderReview)
			if parked := h.key(t, h.visa, "k"); parked.ParkedReason != "stripe_mismatch" {
				t.Errorf("parked for %q", parked.ParkedReason)
			}
			if seen := h.rideAs(t, h.visa, ride.ID); seen.Status != StatusCharged || seen.Refund != nil {
				t.Errorf("the ride is %s with %+v", seen.Status, seen.Refund)
			}
		})
	}
}

// TestTheFormOfARefundIsAPureFunctionOfItsKey: there is no amount in it, so
// Stripe gives back what is left, whatever was given back before.
func TestTheFormOfARefundIsAPureFunctionOfItsKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.charged(t)
	h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
	key := phases.ForeignKey("cancel", "refund_created", h.visa.AccountID, "k")
	sends := h.fake.Ledger()
	last := sends[len(sends)-1]
	if last.Key != key || last.Params["metadata[operation]"] != key || last.Params["metadata[ride_id]"] != ride.ID ||
		last.Params["metadata[account_id]"] != h.visa.AccountID || last.Params["payment_intent"] != ride.Charge.PaymentIntent || strings.Contains(last.Body, "amount") {
		t.Errorf("sent %v under %s", last.Params, last.Key)
	}
}
