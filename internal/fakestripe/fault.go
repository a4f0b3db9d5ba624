package fakestripe

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind is a way in which Stripe, or the way to it, can misbehave.
type Kind string

// The kinds of faults. "Executed" means that the effect exists and the answer
// is saved under the key; "refused" means that nothing happened and nothing is
// saved.
const (
	// Delayed only takes time: see [Fault.Latency] and the gates.
	Delayed Kind = "latency"
	// DropBefore closes the connection before anything executed.
	DropBefore Kind = "drop_before"
	// DropAfter executes, then closes the connection without an answer.
	DropAfter Kind = "drop_after"
	// Unsaved500 refuses with a 500 that a retry does not see again.
	Unsaved500 Kind = "500_unsaved"
	// Saved500WithEffect executes, but answers and saves a 500.
	Saved500WithEffect Kind = "500_saved_with_effect"
	// Saved500WithoutEffect executes nothing, but answers and saves a 500. With
	// [Fault.RollForwardAfter] the effect comes later.
	Saved500WithoutEffect Kind = "500_saved_without_effect"
	// InUse409 refuses as if another request with this key were running.
	InUse409 Kind = "409_in_use"
	// LockTimeout refuses with Stripe's lock_timeout: see [Fault.Status].
	LockTimeout Kind = "lock_timeout"
	// RateLimited429 refuses with a 429: see [Fault.RetryAfter].
	RateLimited429 Kind = "429"
	// Declined402 executes with a card that is declined: see
	// [Fault.DeclineCode]. It matters only where a card is charged.
	Declined402 Kind = "402"
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
	// Truncated200 executes and cuts the body in the middle, under a
	// Content-Length for all of it.
	Truncated200 Kind = "truncated_200"
	// Empty200 executes and answers 200 with {}.
	Empty200 Kind = "empty_200"
	// SlowDrip executes and spreads the body over [Fault.Over].
	SlowDrip Kind = "slow_drip"
	// OtherObject executes, but the answer (also the saved one) shows other
	// values: see [Fault.Set]. A later GET shows the truth.
	OtherObject Kind = "other_object"
)

// Kinds returns all kinds of faults.
func Kinds() []Kind {
	return []Kind{
		Delayed, DropBefore, DropAfter, Unsaved500, Saved500WithEffect, Saved500WithoutEffect, InUse409, LockTimeout,
		RateLimited429, Declined402, Unauthorized401, Forbidden403, Unavailable503, BadGateway502, BadRequest400,
		Saved400, Truncated200, Empty200, SlowDrip, OtherObject,
	}
}

// Match says which requests a fault is for. What is empty matches everything,
// but for Method: empty means POST, and "*" every method.
type Match struct {
	Method     string `json:"method,omitempty"`
	Path       string `json:"path,omitempty"`        // all of it
	PathPrefix string `json:"path_prefix,omitempty"` // its beginning
	Key        string `json:"key,omitempty"`         // the Idempotency-Key
	RideID     string `json:"ride_id,omitempty"`     // metadata[ride_id]
}

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

// Fault is a script for the requests that it matches, as they arrive. Faults
// are tried in the order of scripting; the first that is not a [Delayed] one
// ends the search, so delays combine with other faults.
type Fault struct {
	Kind  Kind
	Match Match
	// Skip is how many matching requests pass before the first is hit.
	Skip int
	// Times is how many requests are hit: 0 means one, -1 all until
	// [Server.ClearFaults].
	Times int

	// Latency is real time that any kind may take besides, at LatencyAt.
	Latency Latency
	// LatencyAt is "before" the execution (the default; the key is in use
	// meanwhile) or "after" it, when the key is saved.
	LatencyAt string
	// HoldBefore and HoldAfter stop the request before its execution, and
	// between its execution and its answer, until the channel is closed. A
	// client that goes away does not stop it; closing the server ends it
	// without an answer.
	HoldBefore, HoldAfter <-chan struct{}

	RollForwardAfter time.Duration  // by the fake's clock; of Saved500WithoutEffect
	RetryAfter       time.Duration  // whole seconds; of RateLimited429 and Unavailable503; 0 sends no header
	Status           int            // 409 or 429 (the default); of LockTimeout
	DeclineCode      string         // of Declined402; generic_decline if empty
	Code, Message    string         // of BadRequest400 and Saved400
	Intent           bool           // of BadRequest400 and Saved400, for what confirms: the intent is made, not confirmed, and shown
	Over             time.Duration  // real time; of SlowDrip
	Set              map[string]any // of OtherObject: what replaces the fields of the answer
}

// check returns what is wrong with a fault.
func (f *Fault) check() error {
	switch {
	case !slices.Contains(Kinds(), f.Kind):
		return fmt.Errorf("unknown kind %q", f.Kind)
	case f.Skip < 0 || f.Times < -1:
		return errors.New("skip must not be negative, nor times below -1")
	case f.LatencyAt != "" && f.LatencyAt != "before" && f.LatencyAt != "after":
		return fmt.Errorf("latency_at is %q; it must be before or after", f.LatencyAt)
	case f.Status != 0 && f.Status != http.StatusConflict && f.Status != http.StatusTooManyRequests:
		return fmt.Errorf("status is %d; a lock_timeout has 409 or 429", f.Status)
	case f.RollForwardAfter < 0 || f.RetryAfter < 0 || f.Over < 0:
		return errors.New("a duration must not be negative")
	}
	return errors.Join(f.Latency.check(), f.checkOptions())
}

// checkOptions refuses an option that the kind would silently ignore, and one
// that it cannot do without.
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
		{"code", f.Code != "", false, []Kind{BadRequest400, Saved400}},
		{"message", f.Message != "", false, []Kind{BadRequest400, Saved400}},
		{"intent", f.Intent, false, []Kind{BadRequest400, Saved400}},
		{"over", f.Over > 0, true, []Kind{SlowDrip}},
		{"set", len(f.Set) > 0, true, []Kind{OtherObject}},
		{"latency", f.Latency != Latency{} || f.HoldBefore != nil || f.HoldAfter != nil, f.Kind == Delayed, Kinds()},
	} {
		own := slices.Contains(option.kinds, f.Kind)
		if option.given && !own {
			return fmt.Errorf("kind %s takes no %s", f.Kind, option.name)
		}
		if option.needed && own && !option.given {
			return fmt.Errorf("kind %s needs %s", f.Kind, option.name)
		}
	}
	return nil
}

// refusal returns the answer of a fault that lets nothing execute.
func (f *Fault) refusal(s *Send) (answer, bool) {
	if f.Kind == DropBefore {
		return answer{drop: true}, true
	}
	if f.Kind == BadGateway502 {
		return answer{status: http.StatusBadGateway, html: true, body: []byte(badGateway)}, true
	}
	if err := f.refusalError(s); err != nil {
		return err.answer(), true
	}
	return answer{}, false
}

// badGateway is what a proxy says in front of a server that is not there.
const badGateway = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<h1>502 Bad Gateway</h1>\n</body>\n</html>\n"

func (f *Fault) refusalError(s *Send) *apiError {
	switch f.Kind {
	case Unsaved500:
		return serverError()
	case InUse409:
		return keyInUse(s.Key)
	case LockTimeout:
		return lockTimeout(cmp.Or(f.Status, http.StatusTooManyRequests))
	case RateLimited429:
		e := refuse(http.StatusTooManyRequests, typeInvalid, "rate_limit", "Request rate limit exceeded.")
		e.retryAfter = f.RetryAfter
		return e
	case Unauthorized401:
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: sk_test_***.")
	case Forbidden403:
		return refuse(http.StatusForbidden, typeInvalid, "more_permissions_required",
			"The provided key does not have the required permissions for this endpoint.")
	case Unavailable503:
		e := refuse(http.StatusServiceUnavailable, typeAPI, "", "Stripe is temporarily unavailable.")
		e.retryAfter = f.RetryAfter
		return e
	case BadRequest400:
		if f.Intent {
			return nil // see executedRefusal
		}
		return f.badRequest()
	default:
		return nil
	}
}

// executedRefusal returns the error that ends a request after its execution
// began, or nil if the fault wants none.
func (f *Fault) executedRefusal() *apiError {
	if f.Kind != Saved400 && (f.Kind != BadRequest400 || !f.Intent) {
		return nil
	}
	e := f.badRequest()
	e.began = true
	return e
}

func (f *Fault) badRequest() *apiError {
	return invalid("", f.Code, "%s", cmp.Or(f.Message, "This request was refused by a scripted fault."))
}
