package apitest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/api"
)

// anExchange returns an exchange that is as the document says.
func anExchange() Exchange {
	return Exchange{
		Method: http.MethodPost, URL: "/v1/rides", RequestBody: api.Example("ride_request"),
		RequestHeader: http.Header{"Authorization": {"Bearer rr_test_1"}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"}},
		Status:        http.StatusCreated, Body: api.Example("ride_charged"),
		Header: http.Header{
			"Content-Type": {"application/json"}, "Request-Id": {"req_0195f3a2c4d57e8f9a0b1c2d3e4f5a6b"}, "Cache-Control": {"no-store"},
			"X-Content-Type-Options": {"nosniff"}, "Location": {"/v1/rides/ride_9t2k6d1q8r5m3n7p4v0c1f2g3h"}, "Idempotency-Key": {"k"},
		},
	}
}

// TestWhatTheDocumentLacksIsAFault, and so is what contradicts it.
func TestWhatTheDocumentLacksIsAFault(t *testing.T) {
	t.Parallel()
	checker, err := NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	if err := checker.Check(anExchange()); err != nil {
		t.Fatalf("an exchange as documented: %v", err)
	}
	body := func(e *Exchange, old, with string) { e.Body = []byte(strings.Replace(string(e.Body), old, with, 1)) }
	sent := func(e *Exchange, old, with string) {
		e.RequestBody = []byte(strings.Replace(string(e.RequestBody), old, with, 1))
	}
	for name, test := range map[string]struct {
		change func(*Exchange)
		says   string
	}{
		"a route":                   {func(e *Exchange) { e.URL = "/v1/boats" }, "a route that the document lacks"},
		"a method":                  {func(e *Exchange) { e.Method = http.MethodPut }, "a route that the document lacks"},
		"a status":                  {func(e *Exchange) { e.Status = 206 }, "the status is not documented"},
		"a header":                  {func(e *Exchange) { e.Header.Set("Server", "x") }, "the header Server"},
		"a header of another form":  {func(e *Exchange) { e.Header.Set("Request-Id", "x") }, "the header Request-Id"},
		"a header twice":            {func(e *Exchange) { e.Header.Add("Location", "/") }, "is there 2 times"},
		"a header that is missing":  {func(e *Exchange) { e.Header.Del("Location") }, "the header Location is missing"},
		"a type":                    {func(e *Exchange) { e.Header.Set("Content-Type", "text/plain") }, "the type"},
		"a field":                   {func(e *Exchange) { body(e, `"id"`, `"more":1,"id"`) }, "more"},
		"a field in a field":        {func(e *Exchange) { body(e, `"payment_intent"`, `"more":1,"payment_intent"`) }, `property "more"`},
		"a field that is missing":   {func(e *Exchange) { body(e, `"disputed":false,`, ``) }, "disputed"},
		"a status of a ride":        {func(e *Exchange) { body(e, `"charged"`, `"paid"`) }, "status"},
		"a parameter":               {func(e *Exchange) { e.URL += "?dry=1" }, "the query parameter dry"},
		"a request's header":        {func(e *Exchange) { e.RequestHeader.Set("X-More", "1") }, "the request's header X-More"},
		"a request without a key":   {func(e *Exchange) { e.RequestHeader.Del("Idempotency-Key") }, "Idempotency-Key"},
		"a request's type":          {func(e *Exchange) { e.RequestHeader.Set("Content-Type", "text/csv") }, "a request's body"},
		"a request without account": {func(e *Exchange) { e.RequestHeader.Del("Authorization") }, "without an API key"},
		"a request's field":         {func(e *Exchange) { sent(e, `{`, `{"more":1,`) }, "more"},
		"a request's number":        {func(e *Exchange) { sent(e, `37.7749`, `91`) }, "lat"},
	} {
		e := anExchange()
		test.change(&e)
		if err := checker.Check(e); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
	}
}

// TestARefusedRequestMayBeAnything, but its answer may not.
func TestARefusedRequestMayBeAnything(t *testing.T) {
	t.Parallel()
	checker, err := NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	e := anExchange()
	e.RequestBody, e.Status, e.Body = []byte(`{"a":`), http.StatusBadRequest, api.Example("invalid_json")
	e.Header.Set("Content-Type", "application/problem+json")
	e.Header.Del("Location")
	if err := checker.Check(e); err != nil {
		t.Error(err)
	}
	e.Body = api.Example("card_declined")
	if err := checker.Check(e); err == nil {
		t.Error("a 400 may have the code of a 402")
	}
}
