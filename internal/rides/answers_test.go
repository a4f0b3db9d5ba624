package rides

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/web"
)

// TestAnswers makes every kind of request that is refused, one for each row.
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
		"a key of no variable": {hail(func(c *call) { c.key = "undefined" }), 400, web.CodeIdempotencyKeyInvalid},
		"a quoted null":        {hail(func(c *call) { c.key = `"null"` }), 400, web.CodeIdempotencyKeyInvalid},
		"an object":            {hail(func(c *call) { c.key = "[object Object]" }), 400, web.CodeIdempotencyKeyInvalid},
		"a query on a POST":    {hail(func(c *call) { c.path += "?dry=1" }), 422, web.CodeInvalidParameters},
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
			if (r.header.Get("Accept")+r.header.Get("Accept-Encoding") != "") != (test.status == 415) {
				t.Errorf("Accept is %q, Accept-Encoding %q", r.header.Get("Accept"), r.header.Get("Accept-Encoding"))
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
