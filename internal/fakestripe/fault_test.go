package fakestripe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFaultsThatRefuseShowStripesAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault        Fault
		status       int
		member, want string
		retryAfter   string
	}{
		{Fault{Kind: Unsaved500}, 500, "error.type", "api_error", ""},
		{Fault{Kind: InUse409}, 409, "error.code", "idempotency_key_in_use", ""},
		{Fault{Kind: LockTimeout}, 429, "error.code", "lock_timeout", ""},
		{Fault{Kind: LockTimeout, Status: 409}, 409, "error.code", "lock_timeout", ""},
		{Fault{Kind: RateLimited429}, 429, "error.code", "rate_limit", ""},
		{Fault{Kind: RateLimited429, RetryAfter: Duration(1500 * time.Millisecond)}, 429, "error.type", "invalid_request_error", "2"},
		{Fault{Kind: Unauthorized401}, 401, "error.type", "invalid_request_error", ""},
		{Fault{Kind: Forbidden403}, 403, "error.code", "more_permissions_required", ""},
		{Fault{Kind: Unavailable503, RetryAfter: Duration(6 * time.Hour)}, 503, "error.type", "api_error", "21600"},
		{Fault{Kind: BadRequest400, Code: "card_expired_or_so", Message: "100% no"}, 400, "error.message", "100% no", ""},
		{Fault{Kind: BadRequest400, Code: "some_code"}, 400, "error.code", "some_code", ""},
	} {
		t.Run(string(test.fault.Kind)+" shows "+test.want+".", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(test.fault)
			r := f.post(t, intents, "k1", hail("r"))
			r.want(t, test.status, test.member, test.want)
			r.wantHeader(t, "Retry-After", test.retryAfter, "Idempotent-Replayed", "", "Idempotency-Key", "k1")
			sent := f.Ledger()[0]
			if sent.Fault != test.fault.Kind || sent.Status != test.status || sent.InFlight {
				t.Errorf("the ledger shows %+v", sent)
			}
			if got := len(f.PaymentIntents()); got != 0 {
				t.Errorf("there are %d payment intents, want none", got)
			}
		})
	}
	t.Run("502_html shows a page.", func(t *testing.T) {
		t.Parallel()
		f := open(t, Options{})
		f.Script(Fault{Kind: BadGateway502})
		r := f.post(t, intents, "k1", hail("r"))
		r.wantHeader(t, "Content-Type", "text/html")
		if r.status != 502 || !strings.HasPrefix(r.body, "<html>") {
			t.Errorf("the answer is %d %s", r.status, r.body)
		}
	})
}

// A 400 is saved only by its own kind. Either kind may leave a payment intent
// behind that nobody confirms.
func TestA400IsSavedOrNotAndMayMakeAnIntent(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{
		{Kind: BadRequest400, Code: "c", Intent: true}, {Kind: Saved400, Code: "c"}, {Kind: Saved400, Code: "c", Intent: true},
	} {
		t.Run(fmt.Sprintf("%s with an intent: %t", fault.Kind, fault.Intent), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := open(t, Options{Dir: dir})
			f.Script(fault)
			first := f.post(t, intents, "k1", hail("r"))
			first.want(t, 400, "error.type", "invalid_request_error", "error.code", "c")
			first.wantHeader(t, "Idempotent-Replayed", "")
			f = reopen(t, f, dir)
			made := 0
			if fault.Intent {
				made = 1
				first.want(t, 400, "error.payment_intent.status", "requires_payment_method", "error.payment_intent.metadata.ride_id", "r")
				f.read(t, intents+"/"+first.get("error.payment_intent.id")).want(t, 200, "latest_charge", "<nil>")
			}
			if got := len(f.PaymentIntents()); got != made {
				t.Errorf("there are %d payment intents, want %d", got, made)
			}
			again := f.post(t, intents, "k1", hail("r"))
			if fault.Kind == Saved400 {
				again.wantHeader(t, "Idempotent-Replayed", "true")
				if again.status != 400 || again.body != first.body {
					t.Errorf("the replay is %d %s, the first was %s", again.status, again.body, first.body)
				}
				return
			}
			again.want(t, 200)
		})
	}
}

// The effect of a request whose answer is lost exists, and is saved under its
// key.
func TestFaultsAfterTheExecutionLoseOnlyTheAnswer(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{
		{Kind: DropAfter},
		{Kind: Truncated200},
		{Kind: Empty200},
		{Kind: SlowDrip, Over: Duration(10 * time.Millisecond)},
	} {
		t.Run("After "+string(fault.Kind)+" a retry is a replay.", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(fault)
			switch fault.Kind {
			case Empty200:
				if r := f.post(t, intents, "k1", hail("r")); r.status != 200 || r.body != "{}" {
					t.Errorf("the answer is %d %s, want 200 {}", r.status, r.body)
				}
			case SlowDrip:
				f.post(t, intents, "k1", hail("r")).want(t, 200, "status", "succeeded")
			default:
				f.lost(t, hail("r"))
			}
			f.wantCharges(t, "r", 1)
			again := f.post(t, intents, "k1", hail("r"))
			again.want(t, 200, "status", "succeeded")
			again.wantHeader(t, "Idempotent-Replayed", "true")
			f.wantCharges(t, "r", 1)
			if sends := f.Ledger(); len(sends) != 2 || sends[0].Status != 200 || sends[0].Fault != fault.Kind || !sends[1].Replayed {
				t.Errorf("the ledger shows %+v", sends)
			}
		})
	}
}

func TestDropBeforeExecutesNothing(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: DropBefore})
	f.lost(t, hail("r"))
	if sends := f.Ledger(); len(sends) != 1 || sends[0].Status != 0 || sends[0].InFlight || sends[0].Params["metadata[ride_id]"] != "r" {
		t.Errorf("the ledger shows %+v", sends)
	}
	f.wantCharges(t, "r", 0)
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Idempotent-Replayed", "")
}

func TestATruncatedAnswerPromisesAllOfItsBody(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: Truncated200})
	r, err := try(t, http.MethodPost, f.url+intents, "k1", hail("r"))
	if !errors.Is(err, io.ErrUnexpectedEOF) || r.status != 200 || r.body == "" {
		t.Errorf("the answer is %d %q with the error %v, want half a body and an unexpected EOF", r.status, r.body, err)
	}
}

func TestASaved500WithEffectCanBeFoundByListing(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: Saved500WithEffect})
	f.post(t, intents, "k1", hail("r")).want(t, 500)
	f.read(t, intents+"?customer=cus_visa").want(t, 200, "data.0.status", "succeeded", "data.0.metadata.operation", "op_r")
	f.post(t, intents, "k1", hail("r")).want(t, 500)
	f.wantCharges(t, "r", 1)
}

func TestA500IsNotSavedForWhatFailsValidation(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: Saved500WithoutEffect})
	f.post(t, intents, "k1", hail("r", "amount", "")).want(t, 400)
	f.post(t, intents, "k1", hail("r")).want(t, 200)
}

func TestAScriptedDeclineIsARealOne(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: Declined402, DeclineCode: "insufficient_funds"})
	r := f.post(t, intents, "k1", hail("r"))
	r.want(t, 402, "error.decline_code", "insufficient_funds", "error.code", "card_declined", "error.payment_intent.status", "requires_payment_method")
	f.read(t, "/v1/charges/"+r.get("error.charge")).want(t, 200, "status", "failed")
}

func TestOtherObjectShowsOtherValuesInReplaysToo(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(Fault{Kind: OtherObject, Set: map[string]any{"amount": 1, "metadata": map[string]any{"ride_id": "x"}}})
	first := f.post(t, intents, "k1", hail("r"))
	first.want(t, 200, "amount", "1", "metadata.ride_id", "x", "status", "succeeded")
	if again := f.post(t, intents, "k1", hail("r")); again.body != first.body {
		t.Errorf("the replay is %s, want %s", again.body, first.body)
	}
	f.read(t, intents+"/"+first.get("id")).want(t, 200, "amount", "2350", "metadata.ride_id", "r")
}

func TestFaultsHitWhatTheyMatch(t *testing.T) {
	t.Parallel()
	const kind = RateLimited429
	for name, test := range map[string]struct {
		match Match
		hit   bool
	}{
		"An empty match hits a POST.": {Match{}, true},
		"A method hits.":              {Match{Method: "*"}, true},
		"Another method does not.":    {Match{Method: "GET"}, false},
		"A path hits.":                {Match{Path: intents}, true},
		"Another path does not.":      {Match{Path: "/v1/payment"}, false},
		"A prefix hits.":              {Match{PathPrefix: "/v1/payment"}, true},
		"Another prefix does not.":    {Match{PathPrefix: "/v1/refunds"}, false},
		"A key hits.":                 {Match{Key: "k1"}, true},
		"Another key does not.":       {Match{Key: "k"}, false},
		"A ride hits.":                {Match{RideID: "r"}, true},
		"Another ride does not.":      {Match{RideID: "r2"}, false},
		"All must match.":             {Match{Key: "k1", RideID: "r2"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(Fault{Kind: kind, Match: test.match})
			r := f.post(t, intents, "k1", hail("r"))
			if hit := r.status == 429; hit != test.hit {
				t.Errorf("the answer is %d; hit is %v, want %v", r.status, hit, test.hit)
			}
		})
	}
	t.Run("A GET is hit only if it is asked for.", func(t *testing.T) {
		t.Parallel()
		f := open(t, Options{})
		f.Script(Fault{Kind: kind}, Fault{Kind: Unavailable503, Match: Match{Method: "GET"}})
		f.read(t, intents).want(t, 503)
		f.read(t, intents).want(t, 200)
	})
}

func TestFaultsAreSkippedAndRepeated(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.Script(
		Fault{Kind: RateLimited429, Skip: 1, Times: 2},
		Fault{Kind: Unavailable503, Skip: 1, Times: -1},
	)
	var got []int
	for range 6 {
		got = append(got, f.post(t, intents, "", hail("r")).status)
	}
	want := []int{200, 429, 429, 503, 503, 503}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("the answers are %v, want %v", got, want)
		}
	}
	f.clearFaults()
	f.post(t, intents, "", hail("r")).want(t, 200)
}

func TestScriptPanicsIfAFaultMakesNoSense(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for name, fault := range map[string]Fault{
		"No kind.":                         {},
		"An unknown kind.":                 {Kind: "500"},
		"A negative skip.":                 {Kind: DropAfter, Skip: -1},
		"A lock time-out with status 418.": {Kind: LockTimeout, Status: 418},
		"A delay without a delay.":         {Kind: Delayed},
		"A drip without a time.":           {Kind: SlowDrip},
		"Another object without values.":   {Kind: OtherObject},
		"A code on a 429.":                 {Kind: RateLimited429, Code: "x"},
		"Two latencies.":                   {Kind: Delayed, Latency: Latency{Fixed: 1, Mean: 1}},
		"A max below the min.":             {Kind: Delayed, Latency: Latency{Min: 2, Max: 1}},
		"A p99 below the p50.":             {Kind: Delayed, Latency: Latency{P50: 2, P99: 1}},
		"A latency at an unknown time.":    {Kind: Delayed, Latency: Latency{Fixed: 1}, LatencyAt: "never"},
		"A negative latency.":              {Kind: Delayed, Latency: Latency{Fixed: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Errorf("Script took %+v", fault)
				}
			}()
			f.Script(fault)
		})
	}
}

// A fault that a Go test scripts and the same fault in JSON are one value.
func TestFaultsAreTheSameInGoAndInJSON(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{
		{Kind: DropAfter, Times: 1},
		{Kind: Unavailable503, Skip: 2, Times: -1, RetryAfter: Duration(2 * time.Second), Match: Match{Method: "*", Key: "k"}},
		{Kind: Delayed, Times: 3, Latency: Latency{P50: Duration(time.Millisecond), P99: Duration(time.Second)}, LatencyAt: "after"},
		{Kind: Saved400, Times: 1, Code: "c", Message: "<m>", Intent: true},
	} {
		encoded, err := json.Marshal(fault)
		if err != nil {
			t.Fatal(err)
		}
		var read Fault
		if err := json.Unmarshal(encoded, &read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fault, read); diff != "" {
			t.Errorf("%s is read as another fault (-scripted +read):\n%s", encoded, diff)
		}
	}
	encoded, err := json.Marshal(Fault{Kind: DropAfter})
	if err != nil || string(encoded) != `{"kind":"drop_after","times":1}` {
		t.Errorf("a fault without a number of times is %s, %v; want that it hits one request", encoded, err)
	}
}
