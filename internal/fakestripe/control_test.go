package fakestripe

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// control sends JSON to one of the controls.
func (f fake) control(t *testing.T, method, path, body string) reply {
	t.Helper()
	r, err := try(t, method, f.url+path, "", body, "Content-Type", "application/json", "Authorization", "")
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func TestTheManualNamesEveryRouteAndKind(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	manual := f.control(t, http.MethodGet, "/_fake", "")
	for _, route := range []string{"ledger", "charges", "faults", "clock", "events", "limits", "settle", "refund", "dispute", "delete", "reset", "healthz"} {
		if !strings.Contains(manual.body, "$F/_fake/"+route) {
			t.Errorf("the manual lacks the route %s", route)
		}
	}
	for _, kind := range kinds() {
		if !strings.Contains(manual.body, " "+string(kind)) {
			t.Errorf("the manual lacks the kind %s", kind)
		}
	}
	if kind := manual.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("the manual is %s", kind)
	}
}

func TestTheLedgerShowsEverySend(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	form := hail("r1")
	f.post(t, intents, "k1", form)
	f.post(t, intents, "k1", form)
	f.read(t, intents+"?limit=3")
	f.post(t, "/v1/refunds", "k2", "charge=ch_none")
	f.post(t, intents, "", hail("r2"), "Authorization", "")
	r := f.control(t, http.MethodGet, "/_fake/ledger", "")
	r.want(t, 200, "0.method", "POST", "0.path", intents, "0.key", "k1", "0.status", "200", "0.replayed", "false",
		"0.fault", "", "0.body", form, "0.params.amount", "2350", "0.params.payment_method_types[0]", "card",
		"1.replayed", "true", "2.status", "400", "2.key", "k2", "3.status", "401", "4", "<missing>")
	if got := r.get("0.params"); !strings.Contains(got, "metadata[ride_id]:r1") {
		t.Errorf("the params are %s", got)
	}
	if _, err := time.Parse(time.RFC3339Nano, r.get("0.at")); err != nil {
		t.Errorf("at is no time: %v", err)
	}
	f.control(t, http.MethodGet, "/_fake/ledger?key=k1", "").want(t, 200, "1.replayed", "true", "2", "<missing>")
	f.control(t, http.MethodGet, "/_fake/ledger?path=/v1/refunds", "").want(t, 200, "0.key", "k2", "1", "<missing>")
	f.control(t, http.MethodGet, "/_fake/ledger?key=none", "").wantNone(t)
	f.control(t, http.MethodGet, "/_fake/ledger?reads=true", "").want(t, 200, "2.method", "GET", "2.params.limit", "3",
		"2.status", "200", "4.status", "401", "5", "<missing>")
}

func TestChargesAreCountedPerRide(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.control(t, http.MethodGet, "/_fake/charges", "").want(t, 200)
	id := f.post(t, intents, "", hail("r1")).get("id")
	f.post(t, intents, "", hail("r1"))
	f.post(t, intents, "", hail("r2", "payment_method", "pm_card_chargeCustomerFail"))
	f.post(t, intents, "", hail("r3", "metadata[ride_id]", ""))
	f.post(t, "/v1/refunds", "", "payment_intent="+id).want(t, 200)
	f.control(t, http.MethodGet, "/_fake/charges", "").want(t, 200, "r1", "2", "r2", "<missing>", "", "1")
	f.control(t, http.MethodGet, "/_fake/charges?detail=true", "").want(t, 200,
		"r1.succeeded", "2", "r1.refunded", "1", "r2.failed", "1", "r2.succeeded", "0")
}

func TestTheClockMovesForward(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.post(t, intents, "k1", hail("r"))
	f.control(t, http.MethodPost, "/_fake/clock", `{"advance":"25h"}`).want(t, 200, "offset", "25h0m0s")
	f.control(t, http.MethodGet, "/_fake/clock", "").want(t, 200, "offset", "25h0m0s")
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Idempotent-Replayed", "")
	for _, bad := range []string{`{"advance":"-1s"}`, `{"advance":"soon"}`, `{"advance":5}`, `{"back":"1s"}`, `{}{}`, ``} {
		f.control(t, http.MethodPost, "/_fake/clock", bad).want(t, 400)
	}
	if now := time.Until(f.clock()); now < 24*time.Hour || now > 26*time.Hour {
		t.Errorf("the clock is %s ahead", now)
	}
	defer func() {
		if recover() == nil {
			t.Error("Advance went back")
		}
	}()
	_ = f.Advance(-1)
}

func TestFaultsAreScriptedOverHTTP(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.control(t, http.MethodPost, "/_fake/faults", `[
		{"kind":"429","retry_after":"2s","times":1,"match":{"method":"POST","path":"/v1/payment_intents","key":"k1","ride_id":"r"}},
		{"kind":"503","skip":1,"times":0}]`).want(t, 200, "0.fault.kind", "429", "1.fault.times", "-1", "0.hits", "0")
	f.post(t, intents, "k1", hail("r")).wantHeader(t, "Retry-After", "2")
	f.post(t, intents, "k1", hail("r")).want(t, 200)
	f.post(t, intents, "k1", hail("r")).want(t, 503)
	f.post(t, intents, "k1", hail("r")).want(t, 503)
	f.control(t, http.MethodGet, "/_fake/faults", "").want(t, 200, "0.spent", "true", "1.hits", "2", "1.spent", "false",
		"0.fault.retry_after", "2s", "0.fault.match.ride_id", "r")
	f.control(t, http.MethodDelete, "/_fake/faults", "").wantNone(t)
	f.post(t, intents, "k1", hail("r")).want(t, 200)
}

func TestFaultsAreShownAsTheyWereScripted(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for body, members := range map[string][]string{
		`{"kind":"latency","latency":"200ms","latency_at":"after"}`:              {"latency.fixed", "200ms", "latency_at", "after", "times", "1"},
		`{"kind":"latency","latency":{"min":"1ms","max":"2ms"}}`:                 {"latency.min", "1ms", "latency.max", "2ms"},
		`{"kind":"503","latency":{"mean":"1ms"}}`:                                {"latency.mean", "1ms"},
		`{"kind":"latency","latency":{"p50":"1ms","p99":"1s"},"times":-1}`:       {"latency.p50", "1ms", "latency.p99", "1s", "times", "-1"},
		`{"kind":"500_saved_without_effect","roll_forward_after":"5m"}`:          {"roll_forward_after", "5m0s"},
		`{"kind":"lock_timeout","status":409,"skip":3}`:                          {"status", "409", "skip", "3"},
		`{"kind":"402","decline_code":"lost_card"}`:                              {"decline_code", "lost_card"},
		`{"kind":"400","code":"c","message":"m","match":{"path_prefix":"/v1/"}}`: {"code", "c", "message", "m", "match.path_prefix", "/v1/"},
		`{"kind":"400","code":"c","intent":true}`:                                {"intent", "true"},
		`{"kind":"400_saved","message":"m"}`:                                     {"message", "m"},
		`{"kind":"slow_drip","over":"1s"}`:                                       {"over", "1s"},
		`{"kind":"other_object","set":{"amount":1}}`:                             {"set.amount", "1"},
	} {
		f.control(t, http.MethodDelete, "/_fake/faults", "")
		r := f.control(t, http.MethodPost, "/_fake/faults", body)
		for i := 0; i < len(members); i += 2 {
			r.want(t, 200, "0.fault."+members[i], members[i+1])
		}
	}
}

func TestARefusedFaultIsAnsweredWithTheKinds(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for _, body := range []string{
		``, `x`, `{}`, `{"kind":"500"}`, `{"kind":"503","colour":"red"}`, `{"kind":"503","match":{"colour":"red"}}`,
		`{"kind":"latency","latency":{"p95":"1s"}}`, `{"kind":"503","times":-2}`, `[{"kind":"503"},{"kind":"?"}]`, `{"kind":"503"} {}`,
		`{"kind":"429","decline_code":"x"}`, `{"kind":"429","latency":"fast"}`, `{"kind":"slow_drip","over":"-1s"}`,
		`{"kind":"402","intent":true}`,
	} {
		r := f.control(t, http.MethodPost, "/_fake/faults", body)
		r.want(t, 400)
		for _, kind := range kinds() {
			if !strings.Contains(r.get("error"), string(kind)) {
				t.Errorf("%s: the error does not list %s: %s", body, kind, r.body)
			}
		}
	}
	f.post(t, intents, "", hail("r")).want(t, 200)
}

func TestLaterEventsAndResetOverHTTP(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	processing := func() string {
		return f.post(t, intents, "", hail("r", "payment_method", "pm_fake_processing")).get("id")
	}
	id := processing()
	f.control(t, http.MethodPost, "/_fake/settle", `{"payment_intent":"`+id+`"}`).want(t, 200)
	f.read(t, intents+"/"+id).want(t, 200, "status", "succeeded")
	f.control(t, http.MethodPost, "/_fake/settle", `{"payment_intent":"`+id+`"}`).want(t, 400)
	f.control(t, http.MethodPost, "/_fake/dispute", `{"payment_intent":"`+id+`"}`).want(t, 200)
	declined := processing()
	f.control(t, http.MethodPost, "/_fake/settle", `{"payment_intent":"`+declined+`","decline_code":"lost_card"}`).want(t, 200)
	f.read(t, intents+"/"+declined).want(t, 200, "last_payment_error.decline_code", "lost_card")
	f.control(t, http.MethodPost, "/_fake/delete", `{"customer":"cus_second"}`).want(t, 200)
	f.control(t, http.MethodPost, "/_fake/delete", `{"customer":"cus_second"}`).want(t, 400)
	f.control(t, http.MethodGet, "/_fake/healthz", "").want(t, 200, "status", "ok")
	f.control(t, http.MethodPost, "/_fake/reset", "").want(t, 200)
	f.control(t, http.MethodGet, "/_fake/ledger?reads=true", "").wantNone(t)
	f.read(t, intents+"/"+id).want(t, 404)
	f.read(t, "/v1/customers/cus_declined").want(t, 200)
	if r := f.control(t, http.MethodGet, "/_fake/nothing", ""); r.status != 404 {
		t.Errorf("an unknown control is %d", r.status)
	}
}
