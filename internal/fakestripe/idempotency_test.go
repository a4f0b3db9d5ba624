package fakestripe

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Each test in this file is one of Stripe's rules for idempotency keys of API
// v1. The quotations are from https://docs.stripe.com/api/idempotent_requests
// and https://docs.stripe.com/error-low-level#idempotency.

// The rule: "Idempotency keys are up to 255 characters long".
func TestIdempotencyKeysAreUpTo255CharactersLong(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	longest := strings.Repeat("k", 255)
	f.post(t, intents, longest, hail("r1")).want(t, 200)
	f.post(t, intents, longest, hail("r1")).wantHeader(t, "Idempotent-Replayed", "true")
	f.post(t, intents, longest+"k", hail("r2")).want(t, 400, "error.type", "invalid_request_error")
	f.wantCharges(t, "r2", 0)
}

// The rule: "All POST requests accept idempotency keys".
func TestAllPOSTsAcceptIdempotencyKeys(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	open := f.post(t, intents, "", hail("r1", "confirm", "", "off_session", "")).get("id")
	toCancel := f.post(t, intents, "", hail("r2", "confirm", "", "off_session", "")).get("id")
	for path, form := range map[string]string{
		"/v1/customers": "email=a%40example.com",
		"/v1/payment_methods/pm_card_visa/attach": "customer=cus_visa",
		intents:                              hail("r3"),
		intents + "/" + open + "/confirm":    "off_session=true",
		intents + "/" + toCancel + "/cancel": "",
		"/v1/refunds":                        "amount=100&payment_intent=" + f.post(t, intents, "", hail("r4")).get("id"),
		"/v1/payment_methods/pm_card_chargeDeclined/attach": "customer=cus_visa",
	} {
		first, again := f.post(t, path, "key "+path, form), f.post(t, path, "key "+path, form)
		if again.status != first.status || again.body != first.body {
			t.Errorf("%s: the replay is %d %s, the first was %d %s", path, again.status, again.body, first.status, first.body)
		}
		first.wantHeader(t, "Idempotent-Replayed", "", "Idempotency-Key", "key "+path)
		again.wantHeader(t, "Idempotent-Replayed", "true", "Idempotency-Key", "key "+path)
	}
}

// The rule: "Don't send idempotency keys in GET and DELETE requests because it
// has no effect".
func TestIdempotencyKeysHaveNoEffectInGETAndDELETE(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.post(t, intents, "k1", hail("r1")).want(t, 200)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for range 2 {
			r, err := try(t, method, f.url+intents, "k1", "")
			if err != nil {
				t.Fatal(err)
			}
			r.wantHeader(t, "Idempotent-Replayed", "", "Idempotency-Key", "")
			if code := r.get("error.type"); method == http.MethodGet && r.status != 200 || code == "idempotency_error" {
				t.Errorf("%s with a used key is answered with %d %s", method, r.status, r.body)
			}
		}
	}
}

// A key belongs to the account, not to the API key that sent it.
func TestIdempotencyKeysAreUniquePerAccount(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	first := f.post(t, intents, "k1", hail("r1"))
	again := f.post(t, intents, "k1", hail("r1"), "Authorization", "Bearer sk_test_rolled")
	again.wantHeader(t, "Idempotent-Replayed", "true")
	if again.body != first.body {
		t.Errorf("another API key of the account got %s, want %s", again.body, first.body)
	}
	f.wantCharges(t, "r1", 1)
}

// The rule: "Stripe saves the status code and body of the first request made
// with a given idempotency key, regardless of whether it succeeds or fails.
// Subsequent requests with the same key return the same result, including 500
// errors".
func TestTheFirstResultIsSavedWhetherItSucceedsOrFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault   Fault
		form    string
		status  int
		charges int
	}{
		"A success is replayed.":               {form: hail("r"), status: 200, charges: 1},
		"A decline is replayed.":               {form: hail("r", "payment_method", "pm_card_chargeCustomerFail"), status: 402},
		"A scripted decline is replayed.":      {fault: Fault{Kind: Declined402}, form: hail("r"), status: 402},
		"A 500 with an effect is replayed.":    {fault: Fault{Kind: Saved500WithEffect}, form: hail("r"), status: 500, charges: 1},
		"A 500 without an effect is replayed.": {fault: Fault{Kind: Saved500WithoutEffect}, form: hail("r"), status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			if test.fault.Kind != "" {
				f.Script(test.fault)
			}
			first := f.post(t, intents, "k1", test.form)
			first.want(t, test.status)
			first.wantHeader(t, "Idempotent-Replayed", "")
			for range 3 {
				again := f.post(t, intents, "k1", test.form)
				again.wantHeader(t, "Idempotent-Replayed", "true", "Original-Request", first.header.Get("Request-Id"))
				if again.status != first.status || again.body != first.body {
					t.Errorf("the replay is %d %s, the first was %d %s", again.status, again.body, first.status, first.body)
				}
			}
			f.wantCharges(t, "r", test.charges)
		})
	}
}

// The rule: "We save results only after the execution of an endpoint begins. If
// incoming parameters fail validation, or the request conflicts with another
// request that's executing concurrently, we don't save the idempotent result".
func TestResultsAreSavedOnlyAfterExecutionBegins(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]string{
		"A missing parameter is not saved.":       hail("r", "amount", ""),
		"An unknown parameter is not saved.":      hail("r", "colour", "red"),
		"An unknown customer is not saved.":       hail("r", "customer", "cus_nobody"),
		"An unknown payment method is not saved.": hail("r", "payment_method", "pm_nothing"),
		"A bad form is not saved.":                "amount=%zz",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.post(t, intents, "k1", refused).want(t, 400, "error.type", "invalid_request_error")
			f.post(t, intents, "k1", hail("r")).want(t, 200)
			f.wantCharges(t, "r", 1)
			if got := len(f.PaymentIntents()); got != 1 {
				t.Errorf("there are %d payment intents, want 1", got)
			}
		})
	}
}

// The rate limiter and the authentication come before the idempotency layer, so
// a 429 or a 401 does not consume a key. A 503 and a 403 do not either.
func TestResultsThatComeBeforeTheLayerAreNotSaved(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{
		RateLimited429, Unauthorized401, Forbidden403, Unavailable503,
		BadGateway502, Unsaved500, InUse409, LockTimeout, BadRequest400,
	} {
		t.Run("After "+string(kind)+" the same key executes.", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			f.Script(Fault{Kind: kind})
			if first := f.post(t, intents, "k1", hail("r")); first.status < 400 {
				t.Errorf("the fault let the request through: %d %s", first.status, first.body)
			}
			f.wantCharges(t, "r", 0)
			second := f.post(t, intents, "k1", hail("r"))
			second.want(t, 200, "status", "succeeded")
			second.wantHeader(t, "Idempotent-Replayed", "")
			f.wantCharges(t, "r", 1)
		})
	}
	t.Run("After a missing API key the same key executes.", func(t *testing.T) {
		t.Parallel()
		f := open(t, Options{})
		f.post(t, intents, "k1", hail("r"), "Authorization", "").want(t, 401)
		f.post(t, intents, "k1", hail("r")).want(t, 200)
	})
}

// The rule: "The idempotency layer compares incoming parameters to those of the
// original request and errors if they're not the same to prevent accidental
// misuse".
func TestTheSameKeyWithOtherParametersOrEndpointIsAnError(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	first := f.post(t, intents, "k1", hail("r1"))
	for name, path := range map[string]string{hail("r2"): intents, hail("r1", "amount", "2351"): intents, "email=a": "/v1/customers"} {
		r := f.post(t, path, "k1", name)
		r.want(t, 400, "error.type", "idempotency_error", "error.code", "<missing>")
		r.wantHeader(t, "Stripe-Should-Retry", "false", "Idempotent-Replayed", "")
	}
	const sentence = "Keys for idempotent requests can only be used with the same parameters they were first used with."
	if got := f.post(t, intents, "k1", hail("r2")).get("error.message"); !strings.HasPrefix(got, sentence) {
		t.Errorf("the message is %q, want it to begin with %q", got, sentence)
	}
	if again := f.post(t, intents, "k1", hail("r1")); again.body != first.body {
		t.Errorf("after the misuse the replay is %s, want %s", again.body, first.body)
	}
	f.wantCharges(t, "r2", 0)
	// A request is the same only if its path is the same as well.
	a, b := f.post(t, intents, "", "amount=100&currency=usd").get("id"), f.post(t, intents, "", "amount=100&currency=usd").get("id")
	f.post(t, intents+"/"+a+"/cancel", "k2", "").want(t, 200)
	f.post(t, intents+"/"+b+"/cancel", "k2", "").want(t, 400, "error.type", "idempotency_error")
}

// The order of the fields does not make a request another one.
func TestTheOrderOfTheFieldsDoesNotMatter(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.post(t, "/v1/customers", "k1", "name=N&email=E").want(t, 200)
	f.post(t, "/v1/customers", "k1", "email=E&name=N").wantHeader(t, "Idempotent-Replayed", "true")
}

// The rule: "You can remove keys from the system automatically after they're at
// least 24 hours old. We generate a new request if a key is reused after the
// original is pruned".
func TestAKeyIsPrunedAfter24HoursAndThenMakesANewRequest(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	first := f.post(t, intents, "k1", hail("r"))
	advance(t, f, 24*time.Hour-time.Minute)
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Idempotent-Replayed", "true")
	f.wantCharges(t, "r", 1)
	advance(t, f, time.Minute)
	second := f.post(t, intents, "k1", hail("r"))
	second.want(t, 200)
	second.wantHeader(t, "Idempotent-Replayed", "")
	if second.get("id") == first.get("id") {
		t.Error("the pruned key made no new payment intent")
	}
	f.wantCharges(t, "r", 2)
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Idempotent-Replayed", "true")
}

// "Treat the result of a 500 request as indeterminate": Stripe may roll it
// forward later, while the key stays a 500.
func TestA500MayRollForwardLaterWhileItsKeyStaysA500(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	f.Script(Fault{Kind: Saved500WithoutEffect, RollForwardAfter: Duration(5 * time.Minute)})
	f.post(t, intents, "k1", hail("r")).want(t, 500, "error.type", "api_error")
	f.post(t, intents, "k1", hail("r")).want(t, 500)
	advance(t, f, 4*time.Minute)
	f.read(t, intents+"?customer=cus_visa").want(t, 200, "data.0", "<missing>")
	f = reopen(t, f, dir)
	advance(t, f, time.Minute)
	f.read(t, intents+"?customer=cus_visa").want(t, 200, "data.0.status", "succeeded", "data.0.metadata.ride_id", "r", "data.1", "<missing>")
	f.wantCharges(t, "r", 1)
	again := f.post(t, intents, "k1", hail("r"))
	again.want(t, 500)
	again.wantHeader(t, "Idempotent-Replayed", "true", "Stripe-Should-Retry", "")
	f = reopen(t, f, dir)
	f.wantCharges(t, "r", 1)
}

// The header Stripe-Should-Retry tells the client what to do. Without it the
// status decides.
func TestStripeShouldRetryIsSentIfStripeDocumentsIt(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	declined := hail("r", "payment_method", "pm_card_chargeCustomerFail")
	f.post(t, intents, "k1", declined).wantHeader(t, "Stripe-Should-Retry", "false")
	f.post(t, intents, "k1", declined).wantHeader(t, "Stripe-Should-Retry", "false", "Idempotent-Replayed", "true")
	for kind, want := range map[Kind]string{
		LockTimeout: "true", InUse409: "true",
		RateLimited429: "", Unsaved500: "", Unavailable503: "",
	} {
		f.Script(Fault{Kind: kind})
		f.post(t, intents, "k2", hail("r")).wantHeader(t, "Stripe-Should-Retry", want)
	}
	f.post(t, intents, "k2", hail("r")).wantHeader(t, "Stripe-Should-Retry", "")
}

// Every answer names its request and its version, and the answer to a POST
// names its key.
func TestEveryAnswerCarriesItsRequestIDVersionAndKey(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	seen := map[string]bool{}
	for _, r := range []reply{
		f.post(t, intents, "k1", hail("r")),
		f.post(t, intents, "k1", hail("r")),
		f.post(t, intents, "k1", hail("other")),
		f.post(t, intents, "k1", hail("r"), "Authorization", "Bearer sk_live_1"),
		f.post(t, "/v1/nothing", "k1", ""),
	} {
		r.wantHeader(t, "Stripe-Version", "2023-10-16", "Idempotency-Key", "k1", "Content-Type", "application/json")
		id := r.header.Get("Request-Id")
		if !strings.HasPrefix(id, "req_") || seen[id] {
			t.Errorf("the Request-Id %q is missing or was used before", id)
		}
		seen[id] = true
	}
}
