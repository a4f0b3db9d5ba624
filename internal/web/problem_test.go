package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// promised is what the contract says of each code.
var promised = map[Code]struct {
	status     int
	retryable  bool
	newKey     bool
	retryAfter bool
}{
	"idempotency_key_missing":       {status: 400, newKey: true},
	"idempotency_key_invalid":       {status: 400, newKey: true},
	"invalid_json":                  {status: 400},
	"unauthenticated":               {status: 401},
	"card_declined":                 {status: 402, newKey: true},
	"authentication_required":       {status: 402, newKey: true},
	"payment_failed":                {status: 402, newKey: true},
	"not_found":                     {status: 404},
	"method_not_allowed":            {status: 405},
	"request_timeout":               {status: 408, retryable: true},
	"idempotency_key_in_use":        {status: 409, retryable: true, retryAfter: true},
	"payment_under_review":          {status: 409, retryable: true, retryAfter: true},
	"ride_not_cancelable":           {status: 409},
	"body_too_large":                {status: 413},
	"unsupported_media_type":        {status: 415},
	"invalid_parameters":            {status: 422},
	"idempotency_key_reused":        {status: 422},
	"idempotency_key_expired":       {status: 422},
	"signature_invalid":             {status: 400},
	"rate_limited":                  {status: 429, retryable: true, retryAfter: true},
	"internal":                      {status: 500, retryable: true},
	"payment_processor_unavailable": {status: 503, retryable: true, retryAfter: true},
	"unavailable":                   {status: 503, retryable: true, retryAfter: true},
}

func TestProblemsKeepThePromisesOfTheirCode(t *testing.T) {
	t.Parallel()
	for code, want := range promised {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			refusal := NewProblemError(code, nil)
			got := refusal.Problem
			if got.Status != want.status || got.Retryable != want.retryable || got.SafeNewKey != want.newKey {
				t.Errorf("status %d, retryable %t, new key %t; want %+v", got.Status, got.Retryable, got.SafeNewKey, want)
			}
			if (refusal.RetryAfter > 0) != want.retryAfter {
				t.Errorf("Retry-After is %d", refusal.RetryAfter)
			}
			if got.Code != code || got.Type != "/problems/"+string(code) {
				t.Errorf("code %s, type %s", got.Code, got.Type)
			}
			if got.Title == "" || strings.HasSuffix(got.Title, ".") || !strings.HasSuffix(got.Detail, ".") {
				t.Errorf("title %q, detail %q", got.Title, got.Detail)
			}
			if got.Retryable && strings.Contains(got.Detail, "a new Idempotency-Key") {
				t.Errorf("retryable with the same key, but the detail says %q", got.Detail)
			}
			if names := strings.Contains(got.Detail, "Retry-After"); names != want.retryAfter {
				t.Errorf("Retry-After is named: %t, in %q", names, got.Detail)
			}
		})
	}
}

func TestEveryCodeIsPromisedAndDistinct(t *testing.T) {
	t.Parallel()
	got, want := slices.Sorted(maps.Keys(kinds)), slices.Sorted(maps.Keys(promised))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("codes (-promised +got):\n%s", diff)
	}
	titles := map[string]Code{}
	for code, kind := range kinds {
		if other, ok := titles[kind.title]; ok {
			t.Errorf("%s and %s have one title", code, other)
		}
		titles[kind.title] = code
		if http.StatusText(kind.status) == "" {
			t.Errorf("%s has status %d", code, kind.status)
		}
	}
}

func TestNewProblemPanicsForAnUnknownCode(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it made a problem that is not in the table")
		}
	}()
	NewProblem("no_such_code")
}

func TestProblemsAreEncodedInAFixedOrder(t *testing.T) {
	t.Parallel()
	faulty := NewProblem(CodeInvalidParameters)
	faulty.RequestID = "req_1"
	faulty.Errors = []ParamFault{{"/origin/lat", "Must be a number."}, {"/a<b>&", "Unknown field."}}
	declined := NewProblem(CodeCardDeclined)
	declined.RequestID = "req_2"
	declined.DeclineCode = "insufficient_funds"
	for name, c := range map[string]struct {
		problem Problem
		want    string
	}{
		"invalid parameters": {faulty, `{"type":"/problems/invalid_parameters","title":"Invalid parameters","status":422,` +
			"\"detail\":\"`errors` lists every fault; correct them all.\"," +
			`"code":"invalid_parameters","request_id":"req_1","retryable":false,"safe_new_key":false,` +
			`"errors":[{"pointer":"/origin/lat","detail":"Must be a number."},{"pointer":"/a<b>&","detail":"Unknown field."}]}` + "\n"},
		"a declined card": {declined, `{"type":"/problems/card_declined","title":"Card declined","status":402,` +
			`"detail":"Your account's card was declined and nothing was charged. It will most likely be declined again. ` +
			`Ask the operator of this service to give your account another card, then send the request with a new Idempotency-Key.",` +
			`"code":"card_declined","request_id":"req_2","retryable":false,"safe_new_key":true,` +
			`"decline_code":"insufficient_funds"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, string(c.problem.Encode())); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryProblemIsEncodedWhole(t *testing.T) {
	t.Parallel()
	for code := range promised {
		problem := NewProblem(code)
		var members map[string]any
		if err := json.Unmarshal(problem.Encode(), &members); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"type", "title", "status", "detail", "code", "request_id", "retryable", "safe_new_key"} {
			if _, ok := members[name]; !ok {
				t.Errorf("%s lacks %s", code, name)
			}
		}
		var again Problem
		if err := json.Unmarshal(problem.Encode(), &again); err != nil || !cmp.Equal(problem, again) {
			t.Errorf("%s changes when it is read back: %v", code, err)
		}
	}
}

func TestErrorsAreTranslatedToProblems(t *testing.T) {
	t.Parallel()
	secret := errors.New("SELECT secret FROM accounts: connection refused")
	reused := NewProblemError(CodeIdempotencyKeyReused, nil)
	for name, c := range map[string]struct {
		err    error
		code   Code
		detail string // how the detail starts
	}{
		"a body that is not JSON": {
			&JSONError{"The body is empty", 0}, CodeInvalidJSON, "The body is empty (at byte 0). Send one JSON object",
		},
		"a malformed key":        {&keyError{"The key is empty"}, CodeIdempotencyKeyInvalid, "The key is empty. Send one "},
		"a missing key":          {errKeyMissing, CodeIdempotencyKeyMissing, "This request needs"},
		"a refusal":              {reused, CodeIdempotencyKeyReused, "This Idempotency-Key belongs"},
		"any other error":        {secret, CodeInternal, "Something went wrong"},
		"a refusal with a cause": {NewProblemError(CodeUnavailable, secret), CodeUnavailable, "The service cannot"},
		"a used key":             {phases.ErrKeyReused, CodeIdempotencyKeyReused, "This Idempotency-Key belongs"},
		"an expired key":         {phases.ErrKeyExpired, CodeIdempotencyKeyExpired, "The request with this"},
		"a parked key":           {phases.ErrParked, CodePaymentUnderReview, "This payment may"},
		"a key in use":           {phases.ErrInUse, CodeIdempotencyKeyInUse, "The same request is running"},
		"no database":            {phases.ErrUnavailable, CodeUnavailable, "The service cannot"},
		"another release's key":  {phases.ErrUnknownVersion, CodeUnavailable, "The service cannot"},
		"charges are off":        {phases.ErrPaused, CodeUnavailable, "The service cannot"},
		"a process that drains":  {phases.ErrDraining, CodeUnavailable, "The service cannot"},
		"a process that is full": {phases.ErrBusy, CodeUnavailable, "The service cannot"},
		"a process that ends":    {phases.ErrAborted, CodeUnavailable, "The service cannot"},
		"a deadline":             {context.DeadlineExceeded, CodeUnavailable, "The service cannot"},
		"a client that is gone":  {context.Canceled, CodeUnavailable, "The service cannot"},
		"a foreign error": {
			&phases.ForeignError{Err: secret}, CodePaymentProcessorUnavailable, "The payment processor could not be reached",
		},
		"a payment that is being worked on": {
			&phases.ForeignError{Waiting: true, Err: secret}, CodePaymentProcessorUnavailable, "The payment processor has this payment",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := problemOf(fmt.Errorf("hailing a ride: %w", c.err))
			if got.Problem.Code != c.code || !strings.HasPrefix(got.Problem.Detail, c.detail) {
				t.Errorf("code %s, detail %q", got.Problem.Code, got.Problem.Detail)
			}
			if body := string(got.Problem.Encode()); strings.Contains(body, "SELECT") {
				t.Errorf("the cause is shown: %s", body)
			}
			if !errors.Is(got, c.err) && !errors.Is(c.err, got) {
				t.Errorf("the log loses the cause: %v", got)
			}
		})
	}
}

// TestRetryAfterOfTheOtherSide: the client comes back when the completer would.
func TestRetryAfterOfTheOtherSide(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]int{
		0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 7 * time.Second: 7, time.Hour: 60,
	} {
		if got := problemOf(&phases.ForeignError{RetryAfter: wait, Err: errors.New("rate limited")}).RetryAfter; got != want {
			t.Errorf("%s is Retry-After %d, want %d", wait, got, want)
		}
	}
}

// TestRetryAfterOfARunningRequest: it is rounded up, so that whole seconds
// outlive the lease too, and a long one is not shortened.
func TestRetryAfterOfARunningRequest(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]int{
		0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 10 * time.Minute: 600,
	} {
		if got := problemOf(&phases.InUseError{RetryAfter: wait}).RetryAfter; got != want {
			t.Errorf("%s is Retry-After %d, want %d", wait, got, want)
		}
	}
}

func TestRetryAfterIsSpread(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 200 {
		seen[problemOf(phases.ErrUnavailable).RetryAfter] = true
	}
	if diff := cmp.Diff(map[int]bool{1: true, 2: true}, seen); diff != "" {
		t.Error(diff)
	}
	clear(seen)
	for range 1000 {
		seen[problemOf(fmt.Errorf("%w for one account", phases.ErrBusy)).RetryAfter] = true
	}
	if len(seen) != busySpread || !seen[1] || !seen[busySpread] {
		t.Errorf("clients of which there are too many come back after %v seconds", slices.Sorted(maps.Keys(seen)))
	}
	if got := problemOf(phases.ErrKeyReused).RetryAfter; got != 0 {
		t.Errorf("what no retry can change has Retry-After %d", got)
	}
	for range 20 {
		if got := problemOf(phases.ErrParked).RetryAfter; got != 60 {
			t.Errorf("what waits for a person has Retry-After %d, want 60", got)
		}
	}
}

// TestNoProblemIsLargerThanPromised: a client decides how many faults there
// are, and how long the names are that they point at.
func TestNoProblemIsLargerThanPromised(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		count       int
		fault       ParamFault
		shown       int
		first, text string
	}{
		"a few":           {2, ParamFault{"/a", "Wrong."}, 2, "/a", "`errors` lists every fault; correct them all."},
		"as many as fit":  {20, ParamFault{"/a", "Wrong."}, 20, "/a", "`errors` lists every fault; correct them all."},
		"many":            {9000, ParamFault{"/a", "Wrong."}, 20, "/a", "`errors` lists 20 of 9000 faults; correct them all."},
		"one long":        {1, ParamFault{"/" + strings.Repeat("é", 60_000), "Wrong."}, 1, "/" + strings.Repeat("é", 198) + "…", "`errors` lists every fault; correct them all."},
		"one of 200":      {1, ParamFault{strings.Repeat("é", 200), "Wrong."}, 1, strings.Repeat("é", 200), "`errors` lists every fault; correct them all."},
		"many long":       {21, ParamFault{strings.Repeat("a", 300), strings.Repeat("b", 400)}, 14, strings.Repeat("a", 199) + "…", "`errors` lists 14 of 21 faults; correct them all."},
		"many unreadable": {20, ParamFault{strings.Repeat("\x01", 300), "Wrong."}, 6, strings.Repeat("\x01", 199) + "…", "`errors` lists 6 of 20 faults; correct them all."},
	} {
		problem := InvalidParameters(slices.Repeat([]ParamFault{c.fault}, c.count)).Problem
		problem.RequestID = "req_" + strings.Repeat("0", 32)
		if got := problem.Encode(); len(got) > 8<<10 || len(problem.Errors) != c.shown || problem.Detail != c.text {
			t.Errorf("%s: %d bytes list %d faults, want %d: %s", name, len(got), len(problem.Errors), c.shown, problem.Detail)
		}
		for _, listed := range problem.Errors {
			if listed.Pointer != c.first || utf8.RuneCountInString(listed.Detail) > 300 {
				t.Errorf("%s: lists %+v", name, listed)
			}
		}
	}
}

func TestProblemErrorNamesCodeAndCause(t *testing.T) {
	t.Parallel()
	if got := NewProblemError(CodeNotFound, nil).Error(); got != "refused: not_found" {
		t.Errorf("got %q", got)
	}
	if got := NewProblemError(CodeUnavailable, errors.New("pool is empty")).Error(); got != "unavailable: pool is empty" {
		t.Errorf("got %q", got)
	}
}
