package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An asking is a request to the API, and what its answer must have.
type asking struct {
	method, path, body string
	header             http.Header // besides those of every request
	status             int
	says               []string          // in the answer's body
	has                map[string]string // headers of the answer; "" for one that it must not have
}

// ask makes a request, and checks its answer.
func (s *scene) ask(t *testing.T, p *process, a asking) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), a.method, p.api+a.path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + s.apiKey}, "Content-Type": {"application/json"}, "Idempotency-Key": {"refused"}}
	maps.Copy(request.Header, a.header)
	response, err := s.roundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != a.status || len(body) > 8<<10 {
		t.Errorf("got %d with %d bytes, want %d: %.1000s", response.StatusCode, len(body), a.status, body)
	}
	for _, text := range a.says {
		if a.method != http.MethodHead && !strings.Contains(string(body), text) {
			t.Errorf("the answer lacks %q: %.1000s", text, body)
		}
	}
	for name, want := range a.has {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(body)}
}

// logged returns the line of a request in the log of a process.
func (p *process) logged(t *testing.T, id string) (line string) {
	t.Helper()
	waitFor(t, "the request is logged", 20*time.Second, func() bool {
		for line = range strings.Lines(p.said()) {
			if strings.Contains(line, `"request_id":"`+id+`"`) {
				return true
			}
		}
		return false
	})
	return line
}

// TestRefusalsOverHTTP makes requests that strangers made, on a running api,
// and checks the words of its answers.
func TestRefusalsOverHTTP(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	cases := map[string]asking{
		"a limit of 0":      {method: "GET", path: "/v1/rides?limit=0", status: 422, says: []string{`"pointer":"/limit"`, "whole number from 1 to 100"}},
		"another type":      {header: http.Header{"Content-Type": {"text/plain"}}, status: 415, has: map[string]string{"Accept": "application/json", "Accept-Encoding": ""}},
		"a compressed body": {header: http.Header{"Content-Encoding": {"gzip"}}, status: 415, has: map[string]string{"Accept-Encoding": "identity", "Accept": ""}},
		"64 KiB of fields":  {body: manyFields(), status: 422, says: []string{" of 6003 faults", "correct them all"}},
	}
	for _, route := range []string{"POST /v1/rides", "POST /v1/rides/ride_1/cancel", "POST /v1/stripe/events", "GET /v1/rides", "HEAD /v1/rides", "GET /v1/rides/ride_1", "HEAD /v1/rides/ride_1"} {
		method, path, _ := strings.Cut(route, " ")
		cases[route+" with dry=1"] = asking{method: method, path: path + "?dry=1", status: 422, says: []string{`"pointer":"/dry"`, "Unknown parameter."}}
	}
	for _, word := range []string{"null", "undefined", "NaN", "None", "[object Object]"} {
		for _, key := range []string{word, `"` + word + `"`} {
			cases["the key "+key] = asking{
				header: http.Header{"Idempotency-Key": {key}}, status: 400, has: map[string]string{"Idempotency-Key": ""},
				says: []string{"idempotency_key_invalid", "The key is " + word + ", which a client sends by mistake", `"safe_new_key":true`},
			}
		}
	}
	for _, host := range []string{".", "-", "..", "-a.example", "a..example", "1.2.3", "0x7f.1", "a\\\"b"} {
		cases["a callback to "+host] = asking{
			body:   strings.Replace(sanFranciscoToOakland, "}}", `},"callback_url":"https://`+host+`"}`, 1),
			status: 422, says: []string{`"pointer":"/callback_url"`, "Must name a host"},
		}
	}
	for name, a := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a.method == "" {
				a.method, a.path = http.MethodPost, "/v1/rides"
			}
			if a.body == "" && a.method == http.MethodPost {
				a.body = sanFranciscoToOakland
			}
			s.ask(t, api, a)
		})
	}
	t.Cleanup(func() {
		if n := len(s.fake.Ledger()); n != 0 {
			t.Errorf("Stripe was asked %d times", n)
		}
	})
}

// manyFields returns a body of nearly 64 KiB with 6,001 unknown fields, and
// without a ride's two points.
func manyFields() string {
	var fields strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&fields, `"%d":1,`, i)
	}
	return `{` + fields.String() + `"x":1}`
}

// TestWhatIsLoggedIsBounded: a client can't fill the disk, whatever is long in
// its request.
func TestWhatIsLoggedIsBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	long := strings.Repeat("x", 60_000)
	for name, a := range map[string]asking{
		"a path":            {method: "GET", path: "/" + long, status: 404},
		"an id":             {method: "GET", path: "/v1/rides/" + long, status: 404},
		"a query":           {method: "GET", path: "/v1/rides?" + long + "=1", status: 422},
		"a method":          {method: strings.ToUpper(long), path: "/v1/rides", status: 405},
		"a key":             {method: "POST", path: "/v1/rides", body: sanFranciscoToOakland, header: http.Header{"Idempotency-Key": {long}}, status: 400},
		"an API key":        {method: "GET", path: "/v1/rides", header: http.Header{"Authorization": {"Bearer " + long}}, status: 401},
		"a traceability id": {method: "GET", path: "/v1/rides", header: http.Header{"X-Traceability-Id": {long}}, status: 200},
		"a trace":           {method: "GET", path: "/v1/rides", header: http.Header{"Traceparent": {long}}, status: 200},
		"a type":            {method: "POST", path: "/v1/rides", body: sanFranciscoToOakland, header: http.Header{"Content-Type": {long}}, status: 415},
		"a field":           {method: "POST", path: "/v1/rides", body: `{"` + long + `":1}`, status: 422},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := s.ask(t, api, a).header.Get("Request-Id")
			if line := api.logged(t, id); len(line) > 1000 {
				t.Errorf("its line in the log has %d bytes: %.2000s", len(line), line)
			}
		})
	}
}

// hangUp asks for a ride, and closes the connection in the middle of the body.
func (s *scene) hangUp(t *testing.T, p *process) {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(connection, "POST /v1/rides HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nIdempotency-Key: gone\r\nContent-Length: 500\r\n\r\n{\"origin\"", s.apiKey)
	if err = errors.Join(err, connection.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestAClientThatIsGoneOverHTTP: a client that hangs up before its body is
// there is no failure of the service: not in the log, and not in the metrics.
func TestAClientThatIsGoneOverHTTP(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != 201 { // so that the account is known
		t.Fatalf("got %d %v", a.status, a.err)
	}
	s.hangUp(t, api)
	var line struct {
		Level, Code string
		Status      int
	}
	waitFor(t, "the request is logged", 20*time.Second, func() bool {
		for text := range strings.Lines(api.said()) {
			if strings.Contains(text, `"client_gone"`) {
				return json.Unmarshal([]byte(text), &line) == nil
			}
		}
		return false
	})
	if line.Level != "INFO" || line.Code != "client_gone" || line.Status != 499 {
		t.Errorf("the log says %+v", line)
	}
	_, page := fetch(t, api.admin+"/metrics")
	if !strings.Contains(page, `rides_http_requests_total{code="client_gone",route="POST /v1/rides",status="499"} 1`) {
		t.Error("the metrics don't count a client that is gone")
	}
	if served := regexp.MustCompile(`status="5[^}]*} [^0]`); served.MatchString(page) || strings.Contains(api.said(), `"level":"WARN"`) {
		t.Errorf("the service is blamed:\n%s", api.said())
	}
}

// TestEveryTimeOfARideHasSixDigits in an answer, a replay, a read and a list,
// also a time without a fraction.
func TestEveryTimeOfARideHasSixDigits(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	a := s.hail(api, `"a key"`)
	if a.status != 201 || a.header.Get("Idempotency-Key") != `"a key"` {
		t.Fatalf("got %d, the key is echoed as %s", a.status, a.header.Get("Idempotency-Key"))
	}
	again := s.hail(api, a.header.Get("Idempotency-Key")) // the echo can be sent again
	if again.body != a.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the echo got %d %s", again.status, again.body)
	}
	six := regexp.MustCompile(`"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"`)
	for range 2 {
		for _, shown := range []answer{
			a, again,
			s.ask(t, api, asking{method: "GET", path: a.header.Get("Location"), status: 200}),
			s.ask(t, api, asking{method: "GET", path: "/v1/rides", status: 200}),
			s.ask(t, api, asking{method: "GET", path: "/v1/rides?idempotency_key=a%20key", status: 200}),
		} {
			if len(six.FindAllString(shown.body, -1)) != 1 {
				t.Errorf("created_at is missing or has another form: %s", shown.body)
			}
		}
		s.exec(t, `UPDATE rides SET created_at = '2026-01-02T03:04:05Z'`)
	}
}
