package fakestripe

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// manual documents the controls, for people.
//
//go:embed control.txt
var manual string

// controlRoutes returns the routes under /_fake. They need no API key:
// everybody who can reach the fake may script it.
func (s *Server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_fake", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, manual)
	})
	mux.HandleFunc("GET /_fake/healthz", s.control(s.health))
	mux.HandleFunc("GET /_fake/ledger", s.control(s.showLedger))
	mux.HandleFunc("GET /_fake/charges", s.control(s.showCharges))
	mux.HandleFunc("GET /_fake/faults", s.control(s.showFaults))
	mux.HandleFunc("POST /_fake/faults", s.control(s.addFaults))
	mux.HandleFunc("DELETE /_fake/faults", s.control(s.removeFaults))
	mux.HandleFunc("GET /_fake/limits", s.control(s.showLimits))
	mux.HandleFunc("POST /_fake/limits", s.control(s.setLimits))
	mux.HandleFunc("GET /_fake/clock", s.control(s.showClock))
	mux.HandleFunc("POST /_fake/clock", s.control(s.moveClock))
	mux.HandleFunc("GET /_fake/events", s.control(s.showEvents))
	mux.HandleFunc("POST /_fake/events", s.control(s.addEventRules))
	mux.HandleFunc("DELETE /_fake/events", s.control(s.removeEventRules))
	mux.HandleFunc("POST /_fake/events/send", s.control(s.sendEvent))
	mux.HandleFunc("POST /_fake/settle", s.control(s.settleIntent))
	mux.HandleFunc("POST /_fake/dispute", s.control(s.disputeIntent))
	mux.HandleFunc("POST /_fake/refund", s.control(s.refundIntent))
	mux.HandleFunc("POST /_fake/delete", s.control(s.deleteCustomer))
	mux.HandleFunc("POST /_fake/reset", s.control(s.resetAll))
	return mux
}

// control returns the handler of a control. The answer is what run returns, as
// JSON. An error of run is a 400, or a 503 if the fake has stopped.
func (s *Server) control(run func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status := http.StatusOK
		shown, err := run(r)
		if err != nil {
			status, shown = s.statusOf(err), map[string]string{"error": err.Error()}
		}
		var body bytes.Buffer
		out := json.NewEncoder(&body)
		out.SetEscapeHTML(false) // people read this, and forms are full of "&"
		if err := out.Encode(shown); err != nil {
			http.Error(w, `{"error":"the answer cannot be encoded"}`, http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body.Bytes())
	}
}

// statusOf returns the status of the answer for an error of a control.
func (s *Server) statusOf(err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil && errors.Is(err, s.dead) {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func (s *Server) health(*http.Request) (any, error) {
	return map[string]string{"status": "ok"}, s.update(func() error { return nil })
}

func (s *Server) showLedger(r *http.Request) (any, error) {
	q := r.URL.Query()
	sends := slices.DeleteFunc(s.sends(q.Get("reads") == "true"), func(send Send) bool {
		return q.Has("key") && send.Key != q.Get("key") || q.Has("path") && send.Path != q.Get("path")
	})
	return append([]Send{}, sends...), nil // never null
}

func (s *Server) showCharges(r *http.Request) (any, error) {
	if r.URL.Query().Get("detail") == "true" {
		return s.tallies(), nil
	}
	return s.Charges(), nil
}

// faultShape is how the controls show a fault: with how many requests it has
// hit, and whether it will hit no more.
type faultShape struct {
	Fault Fault `json:"fault"`
	Hits  int   `json:"hits"`
	Spent bool  `json:"spent"`
}

func (s *Server) showFaults(*http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := []faultShape{}
	for _, f := range s.faults {
		shown = append(shown, faultShape{f.Fault, f.hits, f.spent()})
	}
	return shown, nil
}

func (s *Server) addFaults(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the faults: %w", err)
	}
	faults, err := readFaults(body)
	if err != nil {
		return nil, fmt.Errorf("%w; kinds are %q; GET /_fake shows all fields", err, kinds())
	}
	s.Script(faults...)
	return s.showFaults(r)
}

func (s *Server) removeFaults(r *http.Request) (any, error) {
	s.clearFaults()
	return s.showFaults(r)
}

func (s *Server) showClock(*http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"now": s.now(), "offset": Duration(s.state.offset)}, nil
}

func (s *Server) moveClock(r *http.Request) (any, error) {
	var move struct {
		Advance Duration `json:"advance"`
	}
	if err := readBody(r, &move); err != nil {
		return nil, err
	}
	if move.Advance < 0 {
		return nil, fmt.Errorf("advance is %s; time does not go back", time.Duration(move.Advance))
	}
	if err := s.Advance(time.Duration(move.Advance)); err != nil {
		return nil, err
	}
	return s.showClock(r)
}

func (s *Server) settleIntent(r *http.Request) (any, error) {
	var which struct {
		PaymentIntent string `json:"payment_intent"`
		DeclineCode   string `json:"decline_code"`
	}
	if err := readBody(r, &which); err != nil {
		return nil, err
	}
	return map[string]string{"status": "ok"}, s.step(func(t *tx) error { return t.settle(which.PaymentIntent, which.DeclineCode) })
}

func (s *Server) disputeIntent(r *http.Request) (any, error) {
	var which struct {
		PaymentIntent string `json:"payment_intent"`
		Status        string `json:"status"`
	}
	if err := readBody(r, &which); err != nil {
		return nil, err
	}
	return map[string]string{"status": "ok"}, s.Dispute(which.PaymentIntent, which.Status)
}

// refundIntent makes a refund, or changes the status of one.
func (s *Server) refundIntent(r *http.Request) (any, error) {
	var which struct {
		PaymentIntent string `json:"payment_intent"`
		Amount        int64  `json:"amount"`
		Refund        string `json:"refund"`
		Status        string `json:"status"`
	}
	if err := readBody(r, &which); err != nil {
		return nil, err
	}
	if (which.PaymentIntent == "") == (which.Refund == "") || which.Amount < 0 || which.Refund != "" && which.Amount != 0 {
		return nil, errors.New("give payment_intent, and amount unless all is refunded; or refund and status")
	}
	id := which.Refund
	if id == "" {
		var err error
		if id, err = s.DashboardRefund(which.PaymentIntent, which.Amount); err != nil {
			return nil, err
		}
	}
	if which.Status == "" && which.Refund == "" {
		return map[string]string{"refund": id}, nil
	}
	return map[string]string{"refund": id}, s.ChangeRefund(id, which.Status)
}

func (s *Server) deleteCustomer(r *http.Request) (any, error) {
	var which struct {
		Customer string `json:"customer"`
	}
	if err := readBody(r, &which); err != nil {
		return nil, err
	}
	return map[string]string{"status": "ok"}, s.DeleteCustomer(which.Customer)
}

func (s *Server) resetAll(*http.Request) (any, error) {
	return map[string]string{"status": "ok"}, s.reset()
}

// readBody decodes the JSON of a request to a control.
func readBody(r *http.Request, into any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if err := strict(body, into); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	return nil
}

// readFaults reads the JSON of one fault or of a list of faults, and checks
// each.
func readFaults(body []byte) ([]Fault, error) {
	faults, err := readList[Fault](body)
	if err != nil {
		return nil, err
	}
	for i := range faults {
		if err := faults[i].check(); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i, err)
		}
	}
	return faults, nil
}

// readList reads the JSON of one value or of a list of values.
func readList[T any](body []byte) ([]T, error) {
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '[' {
		values := make([]T, 1)
		return values, strict(body, &values[0])
	}
	var values []T
	return values, strict(body, &values)
}

// strict decodes one JSON value. Unknown fields, and anything after the value,
// are errors.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is something after the JSON value")
	}
	return nil
}
