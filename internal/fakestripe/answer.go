package fakestripe

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// answer is what a request is answered with, before a fault changes how it is
// sent.
type answer struct {
	status     int
	body       []byte
	html       bool          // the body is a page, not JSON
	retry      string        // Stripe-Should-Retry
	retryAfter time.Duration // Retry-After
	saved      bool          // under the key
	replayed   bool          // from the key
	original   string        // the id of the request whose answer is replayed
	limited    string        // Stripe-Rate-Limited-Reason
	drop       bool          // the connection is closed instead
}

// answer returns the error in Stripe's form.
func (e *apiError) answer() answer {
	body, err := json.Marshal(struct {
		Error *failure `json:"error"`
	}{&e.failure})
	if err != nil {
		panic(err) // every failure can be encoded
	}
	return answer{status: e.status, body: body, retry: e.retry, retryAfter: e.retryAfter}
}

// writeHeader sets the headers of an answer.
func (a answer) writeHeader(h http.Header, c *call) {
	h.Set("Content-Type", "application/json")
	if a.html {
		h.Set("Content-Type", "text/html")
	}
	h.Set("Request-Id", c.send.RequestID)
	h.Set("Stripe-Version", apiVersion)
	if c.send.Method == http.MethodPost && c.send.Key != "" {
		h.Set("Idempotency-Key", c.send.Key)
	}
	if a.replayed {
		h.Set("Idempotent-Replayed", "true")
		h.Set("Original-Request", a.original)
	}
	if a.retry != "" {
		h.Set("Stripe-Should-Retry", a.retry)
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(whole(a.retryAfter), 10))
	}
	if a.limited != "" {
		h.Set("Stripe-Rate-Limited-Reason", a.limited)
	}
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="Stripe"`)
	}
}

// deliver sends an answer, or what the faults leave of it.
func (s *Server) deliver(w http.ResponseWriter, c *call, a answer) {
	if a.drop || c.plan.Kind == DropAfter {
		panic(http.ErrAbortHandler)
	}
	if c.plan.Kind == Empty200 && (a.status == http.StatusOK || a.saved || a.replayed) {
		a.status, a.body = http.StatusOK, []byte("{}")
	}
	a.writeHeader(w.Header(), c)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	switch c.plan.Kind {
	case Truncated200:
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case SlowDrip:
		s.drip(w, a.body, &c.plan)
	default:
		_, _ = w.Write(a.body)
	}
}

// drips is the number of pieces of a slow answer.
const drips = 20

// drip writes a body piece by piece, until the client goes away.
func (s *Server) drip(w http.ResponseWriter, body []byte, p *plan) {
	for i := range drips {
		// The header leaves at once. The pause comes before the piece, so that the
		// last piece leaves when all of p.Over has passed.
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		if err := s.sleep(time.Duration(p.Over)/drips, p.after.cleared); err != nil {
			panic(http.ErrAbortHandler)
		}
		piece := body[len(body)*i/drips : len(body)*(i+1)/drips]
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}
