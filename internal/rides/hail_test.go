package rides

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
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
			shape := `^\{"id":"ride_\w+","object":"ride","created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","livemode":false,"status":"charged",` +
				`"origin":\{[^}]+\},"target":\{[^}]+\},"fare":\{[^}]+\},"charge":\{[^}]+\},` +
				`"refund":null,"disputed":false,"failure":null,"idempotency_key":"k","callback_url":null\}\n$`
			if !regexp.MustCompile(shape).MatchString(first.body) {
				t.Errorf("the ride is %s", first.body)
			}

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
	if r := h.send(t, quoted).must(t, 201, ""); r.header.Get("Idempotent-Replayed") != "true" || r.header.Get("Idempotency-Key") != `"k"` {
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
		want := &Failure{Code: web.CodeCardDeclined, DeclineCode: new("generic_decline"), Detail: first.problem.Detail}
		if diff := cmp.Diff(want, ride.Failure); diff != "" {
			t.Errorf("the ride's failure (-want +got):\n%s", diff)
		}
	})
	t.Run("a card whose holder must authenticate", func(t *testing.T) {
		t.Parallel()
		h.exec(t, `UPDATE accounts SET payment_method = 'pm_card_authenticationRequired' WHERE id = $1`, h.second.AccountID)
		h.hailAs(t, h.second, "k").must(t, 402, web.CodeAuthenticationRequired)
		first := h.hailAs(t, h.second, "k").must(t, 402, web.CodeAuthenticationRequired)
		listed := decode[rideList](t, h.send(t, call{method: "GET", path: "/v1/rides", as: h.second}).must(t, 200, "")).Data[0]
		if f := listed.Failure; f == nil || f.Code != web.CodeAuthenticationRequired || f.Detail != first.problem.Detail {
			t.Errorf("the ride's failure is %+v, its 402 %s", f, first.body)
		}
	})
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

// TestA202ShowsAPendingRide: also when the card is charged already, because a
// 202 says that the request goes on, and it may still have another end.
func TestA202ShowsAPendingRide(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.exec(t, `ALTER TABLE staged_jobs ADD CONSTRAINT none CHECK (false) NOT VALID`)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}) // so that the next attempt is stepwise
	h.hailAs(t, h.visa, "k").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.hailAs(t, h.visa, "k").must(t, 500, web.CodeInternal)
	h.exec(t, `ALTER TABLE staged_jobs DROP CONSTRAINT none`)
	h.exec(t, `UPDATE idempotency_keys SET lease_token = $1, leased_until = now() + interval '1 minute'`, uuid.New())
	if n := number(t, h, `SELECT count(*) FROM rides r JOIN idempotency_keys USING (account_id, key) WHERE status = 'charged' AND finished_at IS NULL`); n != 1 {
		t.Fatal("there is no charged ride with an unfinished key")
	}
	async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"Prefer": {"respond-async"}}}
	if r := h.send(t, async).must(t, 202, ""); r.ride.Status != StatusPending || r.ride.Charge != nil {
		t.Errorf("it shows %s", r.body)
	}
	h.expire(t)
	h.send(t, async).must(t, 201, "")
	h.checkCharged(t, h.visa, "k")
}
