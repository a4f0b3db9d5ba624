package fakestripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fake is a fake Stripe behind a real HTTP server.
type fake struct {
	*Server

	url string
}

func open(t *testing.T, o Options) fake {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		web.Close()
	})
	return fake{Server: s, url: web.URL}
}

// clock returns the time by the fake's clock.
func (s *Server) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// get returns a member of the body by its path, such as "error.code". A number
// in the path is an index. A member that does not exist is "<missing>", and
// null is "<nil>".
func (r reply) get(path string) string {
	var at any
	if err := json.Unmarshal([]byte(r.body), &at); err != nil {
		return fmt.Sprintf("<not JSON: %v>", err)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch node := at.(type) {
		case map[string]any:
			value, ok := node[name]
			if !ok {
				return "<missing>"
			}
			at = value
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(node) {
				return "<missing>"
			}
			at = node[i]
		default:
			return "<missing>"
		}
	}
	if number, ok := at.(float64); ok {
		return fmt.Sprintf("%.0f", number)
	}
	return fmt.Sprint(at)
}

// soon returns a context for waiting for something that must happen at once, so
// that the test fails instead of hanging.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newClient returns a client that uses each connection once. On a reused
// connection net/http would send a POST with an Idempotency-Key again by
// itself.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// try sends a request as Stripe's own client does.
func try(t *testing.T, method, address, key, form string, headers ...string) (reply, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer sk_test_123")
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := newClient().Do(request)
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body)}, errors.Join(err, response.Body.Close())
}

func (f fake) post(t *testing.T, path, key, form string, headers ...string) reply {
	t.Helper()
	r, err := try(t, http.MethodPost, f.url+path, key, form, headers...)
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	return r
}

func (f fake) read(t *testing.T, path string, headers ...string) reply {
	t.Helper()
	r, err := try(t, http.MethodGet, f.url+path, "", "", headers...)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return r
}

// lost sends a charge with the key k1 that must not be answered as a whole.
func (f fake) lost(t *testing.T, form string) {
	t.Helper()
	if r, err := try(t, http.MethodPost, f.url+intents, "k1", form); err == nil {
		t.Fatalf("the POST was answered with %d %s; want a broken connection", r.status, r.body)
	}
}

// hail returns the form that the service sends for a ride. Pairs of names and
// values change it; an empty value removes the name.
func hail(ride string, changes ...string) string {
	form := url.Values{
		"amount": {"2350"}, "currency": {"usd"}, "customer": {"cus_visa"}, "payment_method": {"pm_card_visa"},
		"confirm": {"true"}, "off_session": {"true"}, "payment_method_types[0]": {"card"},
		"description": {"A ride"}, "metadata[ride_id]": {ride}, "metadata[operation]": {"op_" + ride},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			form.Del(changes[i])
			continue
		}
		form.Set(changes[i], changes[i+1])
	}
	return form.Encode()
}

const intents = "/v1/payment_intents"

// want compares the status of an answer and some members of its body.
func (r reply) want(t *testing.T, status int, members ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status is %d, want %d; the body is %s", r.status, status, r.body)
	}
	for i := 0; i+1 < len(members); i += 2 {
		if got := r.get(members[i]); got != members[i+1] {
			t.Errorf("%s is %q, want %q; the body is %s", members[i], got, members[i+1], r.body)
		}
	}
}

// wantNone checks that the body is an empty JSON array, and not null.
func (r reply) wantNone(t *testing.T) {
	t.Helper()
	if r.status != http.StatusOK || strings.TrimSpace(r.body) != "[]" {
		t.Errorf("status is %d and the body %s, want 200 and []", r.status, r.body)
	}
}

// wantHeader compares headers; "" means that a header is not there.
func (r reply) wantHeader(t *testing.T, headers ...string) {
	t.Helper()
	for i := 0; i+1 < len(headers); i += 2 {
		if got := r.header.Get(headers[i]); got != headers[i+1] {
			t.Errorf("the header %s is %q, want %q", headers[i], got, headers[i+1])
		}
	}
}

// wantCharges compares the number of succeeded charges of a ride.
func (f fake) wantCharges(t *testing.T, ride string, want int) {
	t.Helper()
	if got := f.Charges()[ride]; got != want {
		t.Errorf("%s has %d succeeded charges, want %d", ride, got, want)
	}
}

func advance(t *testing.T, f fake, d time.Duration) {
	t.Helper()
	if err := f.Advance(d); err != nil {
		t.Fatalf("Advance: %v", err)
	}
}

// reopen closes a fake and opens another on its directory.
func reopen(t *testing.T, f fake, dir string) fake {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return open(t, Options{Dir: dir})
}
