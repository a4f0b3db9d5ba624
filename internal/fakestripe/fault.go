package fakestripe

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Kind is a way in which Stripe, or the connection to it, can misbehave.
type Kind string

// The kinds of faults. "Executes" means that the request has its effect and its
// answer is saved under its key. "Refuses" means that nothing happens and
// nothing is saved.
const (
	// Delayed only takes time: see [Fault.Latency], [Fault.HoldBefore] and
	// [Fault.HoldAfter].
	Delayed Kind = "latency"
	// DropBefore closes the connection before anything is executed.
	DropBefore Kind = "drop_before"
	// DropAfter executes, then closes the connection without an answer.
	DropAfter Kind = "drop_after"
	// Unsaved500 refuses with a 500 that a retry does not see again.
	Unsaved500 Kind = "500_unsaved"
	// Saved500WithEffect executes, but answers and saves a 500.
	Saved500WithEffect Kind = "500_saved_with_effect"
	// Saved500WithoutEffect executes nothing, but answers and saves a 500. With
	// [Fault.RollForwardAfter] the effect follows later.
	Saved500WithoutEffect Kind = "500_saved_without_effect"
	// InUse409 refuses as if another request with this key were running.
	InUse409 Kind = "409_in_use"
	// LockTimeout refuses with Stripe's lock_timeout: see [Fault.Status].
	LockTimeout Kind = "lock_timeout"
	// RateLimited429 refuses with a 429: see [Fault.RetryAfter].
	RateLimited429 Kind = "429"
	// Declined402 executes with a card that is declined: see
	// [Fault.DeclineCode]. It changes only requests that charge a card.
	Declined402 Kind = "402"
	// RefundOutcome executes, and the refund gets the status [Fault.Refund]
	// instead of succeeded. It changes only requests that refund.
	RefundOutcome Kind = "refund"
	// Unauthorized401 refuses as if the API key were wrong.
	Unauthorized401 Kind = "401"
	// Forbidden403 refuses as if the API key lacked a permission.
	Forbidden403 Kind = "403"
	// Unavailable503 refuses with a 503 in Stripe's form.
	Unavailable503 Kind = "503"
	// BadGateway502 refuses with a proxy's HTML page.
	BadGateway502 Kind = "502_html"
	// BadRequest400 refuses with a 400: see [Fault.Code] and [Fault.Message].
	// With [Fault.Intent] it makes a payment intent first.
	BadRequest400 Kind = "400"
	// Saved400 answers and saves a 400 like that of BadRequest400. Stripe saves
	// the 400s of requests that it had begun to execute.
	Saved400 Kind = "400_saved"
	// Truncated200 executes, and closes the connection after half of the body.
	// The Content-Length is that of the whole body.
	Truncated200 Kind = "truncated_200"
	// Empty200 executes and answers 200 with {}.
	Empty200 Kind = "empty_200"
	// SlowDrip executes and spreads the body over [Fault.Over].
	SlowDrip Kind = "slow_drip"
	// OtherObject executes, but the answer, also the saved one, shows other
	// values: see [Fault.Set]. A later GET shows the right ones.
	OtherObject Kind = "other_object"
)

// kinds returns all kinds of faults.
func kinds() []Kind {
	return []Kind{
		Delayed, DropBefore, DropAfter, Unsaved500, Saved500WithEffect, Saved500WithoutEffect, InUse409, LockTimeout,
		RateLimited429, Declined402, RefundOutcome, Unauthorized401, Forbidden403, Unavailable503, BadGateway502, BadRequest400,
		Saved400, Truncated200, Empty200, SlowDrip, OtherObject,
	}
}

// Match selects requests. A request must match every field that is not empty.
// An empty Method matches POST alone; "*" matches every method.
type Match struct {
	Method     string `json:"method,omitempty"`
	Path       string `json:"path,omitempty"`        // the whole path
	PathPrefix string `json:"path_prefix,omitempty"` // the beginning of the path
	Key        string `json:"key,omitempty"`         // the Idempotency-Key
	RideID     string `json:"ride_id,omitempty"`     // metadata[ride_id]
}

// holds reports whether a request matches.
func (m Match) holds(s *Send) bool {
	method := m.Method
	if method == "" {
		method = http.MethodPost
	}
	return (method == "*" || method == s.Method) &&
		(m.Path == "" || m.Path == s.Path) &&
		strings.HasPrefix(s.Path, m.PathPrefix) &&
		(m.Key == "" || m.Key == s.Key) &&
		(m.RideID == "" || m.RideID == s.Params["metadata[ride_id]"])
}

// Fault is a script for the requests that it matches, in the order of their
// arrival. Faults are tried in the order in which they were scripted. The first
// one that is not [Delayed] ends the search, so delays combine with another
// fault.
//
// Go tests script faults with [Server.Script]; POST /_fake/faults takes the
// same type as JSON. The two gates have no JSON.
type Fault struct {
	Kind  Kind  `json:"kind"`
	Match Match `json:"match,omitzero"`
	// Skip is how many matching requests pass before the first one is hit.
	Skip int `json:"skip,omitempty"`
	// Times is how many requests are hit: 0 means one, and -1 means all until
	// the faults are cleared. In JSON 0 means -1, and a missing value means
	// one.
	Times int `json:"times"`

	// Latency is real time that a fault of any kind takes besides, at
	// LatencyAt.
	Latency Latency `json:"latency,omitzero"`
	// LatencyAt is "before" the execution (the default), when the key is in
	// use, or "after" it, when the key is saved.
	LatencyAt string `json:"latency_at,omitempty"`

	// RollForwardAfter is for Saved500WithoutEffect: after how much time, by
	// the fake's clock, the effect follows. 0 means never.
	RollForwardAfter Duration `json:"roll_forward_after,omitempty"`
	// RetryAfter is for RateLimited429 and Unavailable503: the header of that
	// name, rounded up to whole seconds. 0 sends no header.
	RetryAfter Duration `json:"retry_after,omitempty"`
	// Status is for LockTimeout: 409 or 429 (the default).
	Status int `json:"status,omitempty"`
	// DeclineCode is for Declined402; generic_decline by default.
	DeclineCode string `json:"decline_code,omitempty"`
	// Refund is for RefundOutcome: pending, requires_action, succeeded, failed
	// or canceled. If Then is given, the refund gets that status when After has
	// passed by the fake's clock.
	Refund string   `json:"refund,omitempty"`
	Then   string   `json:"then,omitempty"`
	After  Duration `json:"after,omitempty"`
	// Code and Message are for BadRequest400 and Saved400.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Intent is for BadRequest400 and Saved400, if the request confirms a
	// payment intent: the intent is made and shown, but not confirmed.
	Intent bool `json:"intent,omitempty"`
	// Over is for SlowDrip: the real time that the body takes.
	Over Duration `json:"over,omitempty"`
	// Set is for OtherObject: fields of the answer, with the values that
	// replace theirs.
	Set map[string]any `json:"set,omitempty"`

	// HoldBefore and HoldAfter stop a request before its execution, and between
	// its execution and its answer, until the channel is closed. A client that
	// goes away does not end that. Closing the server ends it, and the request
	// gets no answer.
	HoldBefore <-chan struct{} `json:"-"`
	HoldAfter  <-chan struct{} `json:"-"`
}

// MarshalJSON returns what UnmarshalJSON reads.
func (f Fault) MarshalJSON() ([]byte, error) {
	type fault Fault // without this method
	if f.Times == 0 {
		f.Times = 1
	}
	return json.Marshal(fault(f))
}

// UnmarshalJSON reads a fault. A field that it does not know is an error.
func (f *Fault) UnmarshalJSON(b []byte) error {
	type fault Fault // without this method
	read := fault{Times: 1}
	if err := strict(b, &read); err != nil {
		return err
	}
	if read.Times == 0 {
		read.Times = -1
	}
	*f = Fault(read)
	return nil
}

// check returns an error if the fault makes no sense.
func (f *Fault) check() error {
	switch {
	case !slices.Contains(kinds(), f.Kind):
		return fmt.Errorf("unknown kind %q", f.Kind)
	case f.Skip < 0 || f.Times < -1:
		return errors.New("skip must not be negative, nor times below -1")
	case f.LatencyAt != "" && f.LatencyAt != "before" && f.LatencyAt != "after":
		return fmt.Errorf("latency_at is %q; it must be before or after", f.LatencyAt)
	case f.Status != 0 && f.Status != http.StatusConflict && f.Status != http.StatusTooManyRequests:
		return fmt.Errorf("status is %d; a lock_timeout has 409 or 429", f.Status)
	case f.RollForwardAfter < 0 || f.RetryAfter < 0 || f.Over < 0 || f.After < 0:
		return errors.New("a duration must not be negative")
	}
	for _, status := range []string{f.Refund, f.Then} {
		if status != "" && !slices.Contains(refundStatuses(), status) {
			return fmt.Errorf("a refund has no status %q; it has one of %q", status, refundStatuses())
		}
	}
	return errors.Join(f.Latency.check(), f.checkOptions())
}

// checkOptions returns an error if an option is given that the kind would
// ignore, or if one is missing that the kind needs.
func (f *Fault) checkOptions() error {
	for _, option := range []struct {
		name   string
		given  bool
		needed bool
		kinds  []Kind
	}{
		{"roll_forward_after", f.RollForwardAfter > 0, false, []Kind{Saved500WithoutEffect}},
		{"retry_after", f.RetryAfter > 0, false, []Kind{RateLimited429, Unavailable503}},
		{"status", f.Status != 0, false, []Kind{LockTimeout}},
		{"decline_code", f.DeclineCode != "", false, []Kind{Declined402}},
		{"refund", f.Refund != "", true, []Kind{RefundOutcome}},
		{"then", f.Then != "", f.After > 0, []Kind{RefundOutcome}},
		{"after", f.After > 0, f.Then != "", []Kind{RefundOutcome}},
		{"code", f.Code != "", false, []Kind{BadRequest400, Saved400}},
		{"message", f.Message != "", false, []Kind{BadRequest400, Saved400}},
		{"intent", f.Intent, false, []Kind{BadRequest400, Saved400}},
		{"over", f.Over > 0, true, []Kind{SlowDrip}},
		{"set", len(f.Set) > 0, true, []Kind{OtherObject}},
		{"latency", f.Latency != Latency{} || f.HoldBefore != nil || f.HoldAfter != nil, f.Kind == Delayed, kinds()},
	} {
		takes := slices.Contains(option.kinds, f.Kind)
		if option.given && !takes {
			return fmt.Errorf("kind %s takes no %s", f.Kind, option.name)
		}
		if option.needed && takes && !option.given {
			return fmt.Errorf("kind %s needs %s", f.Kind, option.name)
		}
	}
	return nil
}
