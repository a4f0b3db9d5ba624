package rides

import (
	"context"
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
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestHailing(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, settings...)
			first := h.hailAs(t, h.visa, "k").must(t, 201, "")
			if got, want := first.header.Get("Location"), "/v1/rides/"+first.ride.ID; got != want {
				t.Errorf("Location is %q, want %q", got, want)
			}
			if first.header.Get("Idempotent-Replayed") != "" || first.header.Get("Idempotency-Key") != "k" {
				t.Errorf("headers of a first answer: %v", first.header)
			}
			want := Ride{
				ID: first.ride.ID, Object: "ride", CreatedAt: first.ride.CreatedAt, Status: StatusCharged,
				Origin: Point{37.7749, -122.4194}, Target: Point{37.8044, -122.2712}, Fare: Money{2350, "usd"},
				Charge: first.ride.Charge, IdempotencyKey: "k",
			}
			if diff := cmp.Diff(want, first.ride); diff != "" {
				t.Error(diff)
			}
			h.checkCharged(t, h.visa, "k")

			again := h.hailAs(t, h.visa, "k").must(t, 201, "")
			if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the replay is %q, %v", again.body, again.header)
			}
			for _, name := range []string{"Location", "Content-Type"} {
				if again.header.Get(name) != first.header.Get(name) {
					t.Errorf("%s differs: %q", name, again.header.Get(name))
				}
			}
			if again.header.Get("Request-Id") == first.header.Get("Request-Id") {
				t.Error("the replay has the first answer's Request-Id")
			}
			read := h.send(t, call{method: "GET", path: "/v1/rides/" + first.ride.ID, as: h.visa}).must(t, 200, "")
			if read.body != first.body {
				t.Errorf("reading it gives %s, hailing it gave %s", read.body, first.body)
			}
		})
	}
}

func TestTheSameRequestInAnotherSpelling(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	for _, body := range []string{
		`{"target":` + oaklandJSON + `,"origin":` + sanFranciscoJSON + `}`,
		`{ "origin": {"lon": -122.41940, "lat": 3.77749e1}, "target": ` + oaklandJSON + ` }`,
	} {
		if r := h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}); r.status != 201 {
			t.Errorf("%s: got %d", body, r.status)
		}
	}
	quoted := call{method: "POST", path: "/v1/rides", body: aRide, key: `"k"`, as: h.visa}
	if r := h.send(t, quoted).must(t, 201, ""); r.header.Get("Idempotent-Replayed") != "true" || r.header.Get("Idempotency-Key") != "k" {
		t.Errorf("the quoted key is another one: %v", r.header)
	}
	other := strings.Replace(aRide, "37.8044", "37.8045", 1)
	for _, body := range []string{other, strings.Replace(aRide, "}}", `},"callback_url":null}`, 1)} {
		h.send(t, call{method: "POST", path: "/v1/rides", body: body, key: "k", as: h.visa}).must(t, 422, web.CodeIdempotencyKeyReused)
	}
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("Stripe was asked %d times, want once", n)
	}
}

// TestAnswers goes through the contract's table of answers, row by row.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "done").must(t, 201, "")
	hail := func(change func(*call)) call {
		c := call{method: "POST", path: "/v1/rides", body: aRide, key: "refused", as: h.visa}
		change(&c)
		return c
	}
	header := func(pairs ...string) http.Header {
		all := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			all.Add(pairs[i], pairs[i+1])
		}
		return all
	}
	tests := map[string]struct {
		call   call
		status int
		code   web.Code
	}{
		"no key":               {hail(func(c *call) { c.key = "" }), 400, web.CodeIdempotencyKeyMissing},
		"a key with a space":   {hail(func(c *call) { c.key = "a b" }), 400, web.CodeIdempotencyKeyInvalid},
		"a key of 256":         {hail(func(c *call) { c.key = strings.Repeat("k", 256) }), 400, web.CodeIdempotencyKeyInvalid},
		"two keys":             {hail(func(c *call) { c.header = http.Header{"Idempotency-Key": {"a", "b"}} }), 400, web.CodeIdempotencyKeyInvalid},
		"a key with params":    {hail(func(c *call) { c.key = `"a";b=1` }), 400, web.CodeIdempotencyKeyInvalid},
		"no JSON":              {hail(func(c *call) { c.body = "{" }), 400, web.CodeInvalidJSON},
		"a duplicate member":   {hail(func(c *call) { c.body = `{"origin":1,"origin":2}` }), 400, web.CodeInvalidJSON},
		"trailing data":        {hail(func(c *call) { c.body += "{}" }), 400, web.CodeInvalidJSON},
		"NaN":                  {hail(func(c *call) { c.body = `{"origin":NaN}` }), 400, web.CodeInvalidJSON},
		"bad UTF-8":            {hail(func(c *call) { c.body = "{\"o\xff\":1}" }), 400, web.CodeInvalidJSON},
		"an array":             {hail(func(c *call) { c.body = `[]` }), 400, web.CodeInvalidJSON},
		"no authorization":     {hail(func(c *call) { c.as = accounts.Credentials{} }), 401, web.CodeUnauthenticated},
		"another scheme":       {hail(func(c *call) { c.header = header("Authorization", "Basic abc") }), 401, web.CodeUnauthenticated},
		"an unknown API key":   {hail(func(c *call) { c.as.APIKey = accounts.NewAPIKey(h.visa.AccountID, false) }), 401, web.CodeUnauthenticated},
		"a live key":           {hail(func(c *call) { c.as.APIKey = accounts.NewAPIKey(h.visa.AccountID, true) }), 401, web.CodeUnauthenticated},
		"no such route":        {hail(func(c *call) { c.path = "/v1/boats" }), 404, web.CodeNotFound},
		"no such ride":         {call{method: "GET", path: "/v1/rides/ride_none", as: h.visa}, 404, web.CodeNotFound},
		"a NUL in an id":       {call{method: "GET", path: "/v1/rides/ride_%00", as: h.visa}, 404, web.CodeNotFound},
		"another's ride":       {call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "done"), as: h.second}, 404, web.CodeNotFound},
		"another method":       {hail(func(c *call) { c.method = "DELETE" }), 405, web.CodeMethodNotAllowed},
		"64 KiB and one byte":  {hail(func(c *call) { c.body = `{"a":"` + strings.Repeat("a", mostBytes-7) + `"}` }), 413, web.CodeBodyTooLarge},
		"a form":               {hail(func(c *call) { c.header = header("Content-Type", "application/x-www-form-urlencoded") }), 415, web.CodeUnsupportedMediaType},
		"a compressed body":    {hail(func(c *call) { c.header = header("Content-Encoding", "gzip") }), 415, web.CodeUnsupportedMediaType},
		"strings for numbers":  {hail(func(c *call) { c.body = strings.Replace(aRide, "37.7749", `"37.7749"`, 1) }), 422, web.CodeInvalidParameters},
		"an unknown field":     {hail(func(c *call) { c.body = strings.Replace(aRide, "{", `{"amount":1,`, 1) }), 422, web.CodeInvalidParameters},
		"out of range":         {hail(func(c *call) { c.body = strings.Replace(aRide, "37.7749", "91", 1) }), 422, web.CodeInvalidParameters},
		"too dear":             {hail(func(c *call) { c.body = strings.Replace(aRide, "37.8044", "-37", 1) }), 422, web.CodeInvalidParameters},
		"a plain callback":     {hail(func(c *call) { c.body = strings.Replace(aRide, "}}", `},"callback_url":"http://a.example"}`, 1) }), 422, web.CodeInvalidParameters},
		"another request":      {hail(func(c *call) { c.key, c.body = "done", `{}` }), 422, web.CodeIdempotencyKeyReused},
		"bad JSON on a used":   {hail(func(c *call) { c.key, c.body = "done", `{` }), 400, web.CodeInvalidJSON},
		"a limit of 0":         {call{method: "GET", path: "/v1/rides?limit=0", as: h.visa}, 422, web.CodeInvalidParameters},
		"a limit of 101":       {call{method: "GET", path: "/v1/rides?limit=101", as: h.visa}, 422, web.CodeInvalidParameters},
		"two limits":           {call{method: "GET", path: "/v1/rides?limit=1&limit=2", as: h.visa}, 422, web.CodeInvalidParameters},
		"an unknown parameter": {call{method: "GET", path: "/v1/rides?limits=1", as: h.visa}, 422, web.CodeInvalidParameters},
		"an unknown cursor":    {call{method: "GET", path: "/v1/rides?starting_after=ride_x", as: h.visa}, 422, web.CodeInvalidParameters},
		"another's cursor":     {call{method: "GET", path: "/v1/rides?starting_after=" + rideID(h.visa.AccountID, "done"), as: h.second}, 422, web.CodeInvalidParameters},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := h.send(t, test.call).must(t, test.status, test.code)
			if got, want := r.header.Get("Request-Id"), r.problem.RequestID; got != want {
				t.Errorf("Request-Id is %q, in the problem %q", got, want)
			}
			if (r.header.Get("WWW-Authenticate") != "") != (test.status == 401) {
				t.Errorf("WWW-Authenticate is %q", r.header.Get("WWW-Authenticate"))
			}
			if test.status == 405 && r.header.Get("Allow") != "GET, HEAD, POST" {
				t.Errorf("Allow is %q", r.header.Get("Allow"))
			}
			if test.code == web.CodeInvalidParameters && (len(r.problem.Errors) == 0 || r.problem.Errors[0].Detail == "") {
				t.Errorf("no fault is named: %s", r.body)
			}
		})
	}
	t.Cleanup(func() {
		ctx := context.Background()
		var keys int
		if err := h.pool.QueryRow(ctx, `SELECT count(*) FROM idempotency_keys`).Scan(&keys); err != nil || keys != 1 {
			t.Errorf("%d keys exist after refusals, want the one that was used (%v)", keys, err)
		}
	})
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	r := h.send(t, call{
		method: "POST", path: "/v1/rides", key: "k", as: h.visa,
		body: `{"origin":{"lat":"x","lon":181},"callback_url":"ftp://a","status":"charged"}`,
	}).must(t, 422, web.CodeInvalidParameters)
	var pointers []string
	for _, fault := range r.problem.Errors {
		pointers = append(pointers, fault.Pointer)
	}
	want := []string{"/callback_url", "/origin/lat", "/origin/lon", "/status", "/target"}
	if diff := cmp.Diff(want, pointers); diff != "" {
		t.Error(diff)
	}
	h.hailAs(t, h.visa, "k").must(t, 201, "") // the corrected request may use the key
}

func TestStoredRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)

	t.Run("a declined card", func(t *testing.T) {
		t.Parallel()
		first := h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
		if first.problem.DeclineCode != "generic_decline" || first.problem.Retryable {
			t.Errorf("the problem is %s", first.body)
		}
		again := h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
		if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the replay is %s", again.body)
		}
		if again.problem.RequestID != first.header.Get("Request-Id") || again.header.Get("Request-Id") == first.header.Get("Request-Id") {
			t.Error("a replayed problem must keep the first request's id in its body, and have an id of its own in its header")
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.declined.AccountID, "k"), as: h.declined}).must(t, 200, "").ride
		if ride.Status != StatusDeclined || ride.Charge != nil {
			t.Errorf("the ride is %s with charge %v", ride.Status, ride.Charge)
		}
	})
	t.Run("a card that wants its holder", func(t *testing.T) {
		t.Parallel()
		h.exec(t, `UPDATE accounts SET payment_method = 'pm_card_authenticationRequired' WHERE id = $1`, h.second.AccountID)
		h.hailAs(t, h.second, "k").must(t, 402, web.CodeAuthenticationRequired)
		h.hailAs(t, h.second, "k").must(t, 402, web.CodeAuthenticationRequired)
	})
}

// TestUnclearAnswersAreNotStored: whatever Stripe does that isn't an answer,
// the client may come back with the same key and is charged once.
func TestUnclearAnswersAreNotStored(t *testing.T) {
	t.Parallel()
	for _, kind := range []fakestripe.Kind{
		fakestripe.DropBefore, fakestripe.DropAfter, fakestripe.Unsaved500, fakestripe.InUse409, fakestripe.LockTimeout,
		fakestripe.RateLimited429, fakestripe.Unauthorized401, fakestripe.Forbidden403, fakestripe.Unavailable503,
		fakestripe.BadGateway502, fakestripe.Truncated200, fakestripe.Empty200,
	} {
		for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
			t.Run(fmt.Sprint(kind, " ", name), func(t *testing.T) {
				t.Parallel()
				h := newHarness(t, settings...)
				h.fake.Script(fakestripe.Fault{Kind: kind})
				r := h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
				if !r.problem.Retryable {
					t.Error("it says that it is not retryable")
				}
				ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
				if ride.Status != StatusPending || ride.Charge != nil {
					t.Errorf("the ride is %s with charge %v", ride.Status, ride.Charge)
				}
				waitFor(t, func() bool { return h.hailAs(t, h.visa, "k").status == 201 })
				h.checkCharged(t, h.visa, "k")
			})
		}
	}
}

func TestASaved500(t *testing.T) {
	t.Parallel()

	t.Run("with effect is adopted", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})
	t.Run("without effect is parked, but not before its time, and never sent again", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect})
		for range 4 {
			h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		}
		if n := len(h.fake.Ledger()); n != 2 {
			t.Errorf("%d sends, want the first and the one that learnt that it is saved", n)
		}
		h.exec(t, `UPDATE idempotency_keys SET find_until = now()`)
		h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
		if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_500" {
			t.Errorf("parked for %q", got)
		}
		ride := h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "").ride
		if ride.Status != StatusUnderReview {
			t.Errorf("the ride is %s", ride.Status)
		}
	})
	t.Run("that rolls forward later is adopted", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: time.Minute})
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
		if err := h.fake.Advance(2 * time.Minute); err != nil {
			t.Fatal(err)
		}
		h.expire(t)
		if counts := h.complete(t); counts.Finished != 1 {
			t.Errorf("the completer did %+v", counts)
		}
		h.checkCharged(t, h.visa, "k")
	})
}

func TestProcessing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_fake_processing' WHERE id = $1`, h.visa.AccountID)
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	intents := h.fake.PaymentIntents()
	if len(intents) != 1 {
		t.Fatalf("%d intents", len(intents))
	}
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	if err := h.fake.Settle(intents[0].ID); err != nil {
		t.Fatal(err)
	}
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("%d sends, want 1: what is processing is read, not sent again", n)
	}
}

func TestAMismatchIsParked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
	h.hailAs(t, h.visa, "k").must(t, 409, web.CodePaymentUnderReview)
	if got := h.key(t, h.visa, "k").ParkedReason; got != "stripe_mismatch" {
		t.Errorf("parked for %q", got)
	}
}

func TestTheCompleterFinishesWhatStripeFailed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 3})
	for i := range 3 {
		h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 503, web.CodePaymentProcessorUnavailable)
	}
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 3 {
		t.Errorf("the completer did %+v", counts)
	}
	for i := range 3 {
		key := fmt.Sprint("k", i)
		r := h.hailAs(t, h.visa, key).must(t, 201, "")
		if r.header.Get("Idempotent-Replayed") != "true" {
			t.Error("what the completer finished is not a replay")
		}
		h.checkCharged(t, h.visa, key)
	}
}

func TestRaces(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, width := range []int{2, 8, 50, 64} {
		key := fmt.Sprint("race-", width)
		answers := make(chan reply, width)
		var group sync.WaitGroup
		for range width {
			group.Go(func() { answers <- h.hailAs(t, h.visa, key) })
		}
		group.Wait()
		close(answers)
		var bodies []string
		for r := range answers {
			switch {
			case r.status == 201:
				bodies = append(bodies, r.body)
			case r.status != 409 || r.problem.Code != web.CodeIdempotencyKeyInUse || r.header.Get("Retry-After") == "":
				t.Errorf("%d at once: got %d %s", width, r.status, r.body)
			}
		}
		for _, body := range bodies {
			if body != bodies[0] {
				t.Errorf("%d at once: two answers: %s and %s", width, bodies[0], body)
			}
		}
		h.hailAs(t, h.visa, key).must(t, 201, "")
		h.checkCharged(t, h.visa, key)
	}
	if n := len(h.fake.Ledger()); n != 4 {
		t.Errorf("Stripe was asked %d times, want 4", n)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	done := make(chan reply)
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	reached()
	r := h.hailAs(t, h.visa, "k").must(t, 409, web.CodeIdempotencyKeyInUse)
	if r.header.Get("Retry-After") == "" || !r.problem.Retryable {
		t.Errorf("the refusal is %s with %v", r.body, r.header)
	}
	release()
	(<-done).must(t, 201, "")
}

func TestAsync(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, settings...)
			reached, release := h.holdCharge(t)
			async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"wait=5, Respond-Async"}}}
			first := h.send(t, async).must(t, 202, "")
			if first.ride.Status != StatusPending || first.ride.Charge != nil || first.header.Get("Preference-Applied") != "respond-async" ||
				first.header.Get("Location") != "/v1/rides/"+first.ride.ID || first.header.Get("Vary") != "Prefer" {
				t.Errorf("202 is %s with %v", first.body, first.header)
			}
			reached()
			if again := h.send(t, async).must(t, 202, ""); again.body != first.body {
				t.Errorf("a retry gives %s, the first answer was %s", again.body, first.body)
			}
			h.send(t, call{method: "GET", path: first.header.Get("Location"), as: h.visa}).must(t, 200, "")
			h.hailAs(t, h.visa, "k").must(t, 409, web.CodeIdempotencyKeyInUse)
			release()
			waitFor(t, func() bool { return h.send(t, async).status == 201 })
			if final := h.send(t, async).must(t, 201, ""); final.header.Get("Idempotent-Replayed") != "true" {
				t.Error("the final answer is not a replay")
			}
			h.checkCharged(t, h.visa, "k")
		})
	}

	t.Run("an abandoned one is 202 for who asks so, and run for who doesn't", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 2})
		async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"respond-async"}}}
		h.send(t, async).must(t, 202, "")
		waitFor(t, func() bool { return !h.key(t, h.visa, "k").Leased })
		h.send(t, async).must(t, 202, "")
		waitFor(t, func() bool { return !h.key(t, h.visa, "k").Leased })
		h.hailAs(t, h.visa, "k").must(t, 201, "")
		h.checkCharged(t, h.visa, "k")
	})
}

func TestTheClientGoesAway(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, h.api+"/v1/rides", strings.NewReader(aRide))
		request.Header.Set("Authorization", "Bearer "+h.visa.APIKey.Reveal())
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", "k")
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
			t.Error("the client was answered after it had gone")
		}
	}()
	reached()
	cancel()
	<-gone
	release()
	waitFor(t, func() bool { return h.key(t, h.visa, "k").FinishedAt != nil })
	h.checkCharged(t, h.visa, "k")
}

// TestAZombieAnswersFromTheRow: a worker that slept through its lease in
// mid-call changes nothing and answers with what the completer stored.
func TestAZombieAnswersFromTheRow(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	h.hailAs(t, h.visa, "warm").must(t, 201, "")
	h.wire.Plan(wire.On(3, wire.Fault{Kind: wire.HoldBefore, Hold: func() { close(asleep); <-wake }}))
	done := make(chan reply)
	go func() { done <- h.hailAs(t, h.visa, "k") }()
	<-asleep
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 1 {
		t.Fatalf("the completer did %+v", counts)
	}
	other := h.startProcess(t, nil)
	stored := other.hailAs(t, h.visa, "k").must(t, 201, "")
	rows := number(t, h, `SELECT count(*) FROM phase_log`)
	close(wake)
	zombie := (<-done).must(t, 201, "")
	if zombie.body != stored.body {
		t.Errorf("the zombie answered %s, stored is %s", zombie.body, stored.body)
	}
	if n := number(t, h, `SELECT count(*) FROM phase_log`); n != rows {
		t.Errorf("the zombie changed the key %d times", n-rows)
	}
	h.checkCharged(t, h.visa, "k")
}

func TestAccountsNeverMeet(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.hailAs(t, h.visa, "k").must(t, 201, "").ride
	b := h.hailAs(t, h.second, "k").must(t, 201, "").ride
	if a.ID == b.ID || a.Charge.ID == b.Charge.ID {
		t.Errorf("two accounts share %s, %s", a.ID, a.Charge.ID)
	}
	h.send(t, call{method: "GET", path: "/v1/rides/" + a.ID, as: h.second}).must(t, 404, web.CodeNotFound)
	h.checkCharged(t, h.visa, "k")
	h.checkCharged(t, h.second, "k")
}

func TestAChangedCardDoesNotChangeARetry(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.exec(t, `UPDATE accounts SET payment_method = 'pm_card_mastercard', stripe_customer = 'cus_second' WHERE id = $1`, h.visa.AccountID)
	h.process = h.startProcess(t, nil) // nothing cached
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	completer := phases.Completer{Engine: h.engine, Poll: time.Millisecond, Concurrency: 1, Retention: time.Nanosecond, Tombstones: time.Hour}
	if counts, err := completer.Once(t.Context()); err != nil || counts.Reaped != 1 {
		t.Fatalf("reaping did %+v, %v", counts, err)
	}
	h.hailAs(t, h.visa, "k").must(t, 422, web.CodeIdempotencyKeyExpired)
	completer.Tombstones = time.Nanosecond
	if counts, err := completer.Once(t.Context()); err != nil || counts.Deleted != 1 {
		t.Fatalf("deleting did %+v, %v", counts, err)
	}
	h.hailAs(t, h.visa, "k").must(t, 422, web.CodeIdempotencyKeyExpired)
	if n := len(h.fake.Ledger()); n != 1 {
		t.Errorf("Stripe was asked %d times, want once", n)
	}
	h.send(t, call{method: "GET", path: "/v1/rides/" + rideID(h.visa.AccountID, "k"), as: h.visa}).must(t, 200, "")
}

func TestListing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 7 {
		h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 201, "")
	}
	h.hailAs(t, h.second, "k0").must(t, 201, "")
	var keys []string
	path := "/v1/rides?limit=3"
	for pages := 1; ; pages++ {
		r := h.send(t, call{method: "GET", path: path, as: h.visa}).must(t, 200, "")
		list := decode[rideList](t, r)
		for _, ride := range list.Data {
			keys = append(keys, ride.IdempotencyKey)
		}
		if !list.HasMore {
			break
		}
		if pages > 3 {
			t.Fatal("it never ends")
		}
		path = "/v1/rides?limit=3&starting_after=" + list.Data[len(list.Data)-1].ID
	}
	if diff := cmp.Diff([]string{"k6", "k5", "k4", "k3", "k2", "k1", "k0"}, keys); diff != "" {
		t.Error(diff)
	}
	one := decode[rideList](t, h.send(t, call{method: "GET", path: "/v1/rides?idempotency_key=k3", as: h.visa}))
	if len(one.Data) != 1 || one.Data[0].IdempotencyKey != "k3" || one.HasMore {
		t.Errorf("by key: %+v", one)
	}
	none := h.send(t, call{method: "GET", path: "/v1/rides?idempotency_key=other", as: h.visa})
	if !strings.Contains(none.body, `"data":[]`) {
		t.Errorf("an empty list is %s", none.body)
	}
}

// TestHead: HEAD says what GET would, without the body (RFC 9110, section
// 9.3.2).
func TestHead(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.hailAs(t, h.visa, "k").must(t, 201, "").ride
	for _, path := range []string{"/v1/rides", "/v1/rides/" + ride.ID} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, h.api+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+h.visa.APIKey.Reveal())
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || len(body) > 0 || response.Body.Close() != nil {
			t.Errorf("%s: a body of %d bytes, %v", path, len(body), err)
		}
		got := h.send(t, call{method: "GET", path: path, as: h.visa})
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" || response.ContentLength != int64(len(got.body)) {
			t.Errorf("%s: %d, %q, length %d; GET has %d bytes", path, response.StatusCode,
				response.Header.Get("Content-Type"), response.ContentLength, len(got.body))
		}
	}
}
