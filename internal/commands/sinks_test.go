package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rocketrides/rocketrides/internal/inbox"
)

// sinks take what completers deliver, and remember all of it.
type sinks struct {
	mail    inbox.Inbox
	smtpURL string

	receiverURL string

	mu        sync.Mutex
	secrets   map[string]string // by the path of an account
	callbacks []callback
}

// A callback is one that came.
type callback struct{ id, what string }

// newSinks starts a mail server and a receiver of callbacks.
func newSinks(tb testing.TB) *sinks {
	tb.Helper()
	s := &sinks{mail: inbox.Inbox{Keep: 1 << 20}, secrets: map[string]string{}}
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server, ended := s.mail.MailServer(), make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }()
	s.smtpURL = "smtp://" + listener.Addr().String() + "?starttls=never"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.take(r); err != nil {
			tb.Errorf("a callback came: %v", err)
			w.WriteHeader(http.StatusGone)
		}
	}))
	s.receiverURL = receiver.URL
	tb.Cleanup(func() { _ = server.Close(); <-ended; receiver.Close() })
	return s
}

// client is a client of the scene's account, whose callbacks come here.
func (s *sinks) client(of *scene) client {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := "/" + of.account
	s.secrets[path] = of.secret
	hail := sanFranciscoToOakland[:len(sanFranciscoToOakland)-1] + `,"callback_url":"` + s.receiverURL + path + `"}`
	return client{apiKey: of.apiKey, hail: hail}
}

// take remembers a callback that has the signature of its account.
func (s *sinks) take(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil // its sender was killed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	webhook, err := standardwebhooks.NewWebhook(s.secrets[r.URL.Path])
	if err != nil {
		return err
	}
	if err := webhook.Verify(body, r.Header); err != nil {
		return err
	}
	var told struct {
		Type string
		Data struct{ ID, Status string }
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return err
	}
	s.callbacks = append(s.callbacks, callback{
		id: r.Header.Get("webhook-id"), what: fmt.Sprintf("%s of %s, %s", told.Type, told.Data.ID, told.Data.Status),
	})
	return nil
}

// count is how much has come.
func (s *sinks) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mail.Messages()) + len(s.callbacks)
}

// receipts returns how often each Message-ID has come, and checks that one
// always has the same message.
func (s *sinks) receipts(tb testing.TB) map[string]int {
	tb.Helper()
	times, first := map[string]int{}, map[string]inbox.Message{}
	for _, m := range s.mail.Messages() {
		if times[m.MessageID]++; times[m.MessageID] == 1 {
			first[m.MessageID] = m
		}
		if m != first[m.MessageID] {
			tb.Errorf("%s is two messages", m.MessageID)
		}
	}
	return times
}

// callbacksByID returns how often each webhook-id has come.
func (s *sinks) callbacksByID() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := map[string]int{}
	for _, c := range s.callbacks {
		times[c.id]++
	}
	return times
}

// callbacksByRide returns how often it was told of each end of each ride, and
// checks that each has one webhook-id.
func (s *sinks) callbacksByRide(tb testing.TB) map[string]int {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	times, ids, told := map[string]int{}, map[string]string{}, map[string]string{}
	for _, c := range s.callbacks {
		if times[c.what]++; times[c.what] == 1 {
			ids[c.what] = c.id
		}
		if told[c.id] == "" {
			told[c.id] = c.what
		}
		if ids[c.what] != c.id || told[c.id] != c.what {
			tb.Errorf("%s came as %s, which is %s; it was %s", c.what, c.id, told[c.id], ids[c.what])
		}
	}
	return times
}

// A client has an account, and hails rides with a body and a preference of its
// own.
type client struct{ apiKey, hail, prefer string }

// insist sends a request again and again until it is answered for good, for at
// most half a minute.
func (c client) insist(p *process, path, key, body string) (a answer) {
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(300 * time.Millisecond) {
		a = c.post(p, path, key, body)
		if a.err == nil && a.status != http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			return a
		}
	}
	return a
}

// post sends a request with a key.
func (c client) post(p *process, path, key, body string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{err: err}
	}
	request.Header.Set("Authorization", "Bearer "+c.apiKey)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	if c.prefer != "" {
		request.Header.Set("Prefer", c.prefer)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(text), err: err}
}
