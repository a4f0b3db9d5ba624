package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rocketrides/rocketrides/internal/cli"
)

const (
	// loopback are the networks that the sandbox lets callbacks go to, unless
	// CALLBACK_ALLOW says otherwise: receivers are tried out on this machine.
	loopback = "127.0.0.0/8,::1/128"

	// maxCallbacks is how many callbacks a receiver keeps: the newest.
	maxCallbacks = 1000

	// maxCallback is the most bytes that a callback may have. Standard Webhooks
	// asks for less than 20 kB.
	maxCallback = 64 << 10
)

// A receiver is what a client of the API runs: it takes callbacks, verifies
// them with the reference library of Standard Webhooks, and shows them. It is
// safe for concurrent use.
type receiver struct {
	accounts []account

	mu  sync.Mutex
	got []callback // the oldest first
}

// A callback is one as it was received.
type callback struct {
	// Account is the name of the account whose secret has signed it, or "".
	Account        string          `json:"account"`
	Verified       bool            `json:"verified"`
	WebhookID      string          `json:"webhook_id"`
	TraceabilityID string          `json:"traceability_id"`
	Body           json.RawMessage `json:"body"`
}

// startReceiver starts a receiver on a free port, and returns its URL.
func startReceiver(ctx context.Context, accounts []account) (url string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting the receiver of callbacks: %w", err)
	}
	server := cli.NewServer(&receiver{accounts: accounts}, slog.New(slog.DiscardHandler))
	server.WriteTimeout = 10 * time.Second
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _, _ = server.Close(), <-ended }, nil
}

// ServeHTTP takes a callback, or shows all, the newest first.
func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		s.take(w, r)
	case http.MethodGet, http.MethodHead:
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(s.newestFirst()) //nolint:errchkjson // the bodies are valid; it fails if the reader has gone away
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "callbacks are sent here with POST, and read with GET", http.StatusMethodNotAllowed)
	}
}

// take keeps a callback. Only one that is verified is acknowledged.
func (s *receiver) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if err != nil || !json.Valid(body) {
		http.Error(w, "this is no callback", http.StatusBadRequest)
		return
	}
	got := callback{WebhookID: r.Header.Get("webhook-id"), TraceabilityID: r.Header.Get("X-Traceability-Id"), Body: body}
	for _, a := range s.accounts {
		if webhook, err := standardwebhooks.NewWebhook(a.CallbackSecret); err == nil && webhook.Verify(body, r.Header) == nil {
			got.Account, got.Verified = a.Name, true
		}
	}
	s.keep(got)
	if !got.Verified {
		http.Error(w, "no account of the sandbox has signed this", http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *receiver) keep(c callback) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, c)
	s.got = s.got[max(0, len(s.got)-maxCallbacks):]
}

func (s *receiver) newestFirst() []callback {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := append([]callback{}, s.got...) // [] in JSON, not null
	slices.Reverse(got)
	return got
}
