package client

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Code names a kind of problem. The page /problems/CODE of the API says what
// happened and what to do.
type Code string

// The codes of the API. A later version may add others.
const (
	CodeIdempotencyKeyMissing       Code = "idempotency_key_missing"
	CodeIdempotencyKeyInvalid       Code = "idempotency_key_invalid"
	CodeInvalidJSON                 Code = "invalid_json"
	CodeUnauthenticated             Code = "unauthenticated"
	CodeCardDeclined                Code = "card_declined"
	CodeAuthenticationRequired      Code = "authentication_required"
	CodePaymentFailed               Code = "payment_failed"
	CodeNotFound                    Code = "not_found"
	CodeMethodNotAllowed            Code = "method_not_allowed"
	CodeRequestTimeout              Code = "request_timeout"
	CodeIdempotencyKeyInUse         Code = "idempotency_key_in_use"
	CodePaymentUnderReview          Code = "payment_under_review"
	CodeRideNotCancelable           Code = "ride_not_cancelable"
	CodeBodyTooLarge                Code = "body_too_large"
	CodeUnsupportedMediaType        Code = "unsupported_media_type"
	CodeInvalidParameters           Code = "invalid_parameters"
	CodeIdempotencyKeyReused        Code = "idempotency_key_reused"
	CodeIdempotencyKeyExpired       Code = "idempotency_key_expired"
	CodeRateLimited                 Code = "rate_limited"
	CodeSignatureInvalid            Code = "signature_invalid"
	CodePaymentProcessorUnavailable Code = "payment_processor_unavailable"
	CodeUnavailable                 Code = "unavailable"
	CodeInternal                    Code = "internal"
)

// A Problem is an answer that is an error (RFC 9457). If the answer is not the
// API's own but, say, a proxy's page, Code is "", and Retryable depends on the
// status alone.
//
//nolint:errname // RFC 9457 names it so
type Problem struct {
	Type      string `json:"type"` // the path of a page about the code
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"` // what happened and what to do, as sentences
	Code      Code   `json:"code"`
	RequestID string `json:"request_id"` // of the request that was first answered so; tell it to the API's operator
	// Retryable means that the same request with the same key may have another
	// outcome.
	Retryable bool `json:"retryable"`
	// SafeNewKey means that nothing was charged under the key, and nothing will
	// be. Only then may the same ride be hailed with a new key.
	SafeNewKey bool `json:"safe_new_key"`
	// DeclineCode is Stripe's reason for CodeCardDeclined or
	// CodeAuthenticationRequired, or "".
	DeclineCode string `json:"decline_code"`
	// Errors are the faults of CodeInvalidParameters.
	Errors []Fault `json:"errors"`

	// RetryAfter is how long the API asks to wait before the request is sent
	// again. 0 means that it doesn't say.
	RetryAfter time.Duration `json:"-"`
	// Replayed means that an earlier request with the same key was answered so.
	Replayed bool `json:"-"`
}

// A Fault is one thing that is wrong with a request's parameters.
type Fault struct {
	Pointer string `json:"pointer"` // the faulty field as a JSON Pointer (RFC 6901)
	Detail  string `json:"detail"`  // what the field must be, as a sentence
}

// Error returns the status, the code and the detail.
func (p *Problem) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d %s", p.Status, p.Title)
	if p.Code != "" {
		fmt.Fprintf(&text, " (%s)", p.Code)
	}
	if p.Detail != "" {
		text.WriteString(": " + p.Detail)
	}
	for _, fault := range p.Errors {
		fmt.Fprintf(&text, " %s: %s", fault.Pointer, fault.Detail)
	}
	return text.String()
}

// An Error is why a call failed. It wraps what happened last: a *[Problem], if
// the API answered.
type Error struct {
	// Op is what was being done, such as "hailing a ride".
	Op string
	// Key is the idempotency key of the call, also if the client made it. To
	// go on, call again with it. It is "" for a call that only reads.
	Key string
	// Attempts is how often the client tried to send the request, also if there
	// was no connection or the context had ended. If it is 0, nothing was sent.
	Attempts int
	// GaveUp says why a request that could be sent again was not, such as "the
	// context ends first". It is "" for a failure that repeating can't change.
	GaveUp string
	// Err is what happened last.
	Err error
}

// Error says what was being done and what happened.
func (e *Error) Error() string {
	text := e.Op + ": " + e.Err.Error()
	var more []string
	if e.Attempts > 1 {
		more = append(more, "attempt "+strconv.Itoa(e.Attempts))
	}
	if e.GaveUp != "" {
		more = append(more, "given up: "+e.GaveUp)
	}
	if e.Key != "" {
		more = append(more, "key "+strconv.Quote(e.Key))
	}
	if len(more) > 0 {
		text += " [" + strings.Join(more, "; ") + "]"
	}
	return text
}

// Unwrap returns what happened last.
func (e *Error) Unwrap() error { return e.Err }

// readProblem returns the problem that an answer is. now is the time of its
// arrival.
func readProblem(response *http.Response, body []byte, now time.Time) *Problem {
	problem := new(Problem)
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if mediaType != "application/problem+json" || json.Unmarshal(body, problem) != nil || problem.Code == "" {
		problem = foreignProblem(response)
	}
	problem.Status = response.StatusCode
	problem.RetryAfter = retryAfter(response.Header, now)
	problem.Replayed = response.Header.Get("Idempotent-Replayed") == "true"
	return problem
}

// foreignProblem returns the problem of an answer that is not the API's own.
// Nothing is known of what the API did, so no new key is safe.
func foreignProblem(response *http.Response) *Problem {
	problem := &Problem{
		Title:     http.StatusText(response.StatusCode),
		Detail:    "The answer is not the API's: there may be a proxy in between.",
		RequestID: response.Header.Get("Request-Id"),
	}
	switch response.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		problem.Retryable = true
	}
	if response.StatusCode/100 == 3 {
		problem.Detail = "The answer is a redirect, which is not followed: correct Config.URL."
	}
	return problem
}

// retryAfter returns the time of the header Retry-After, which is a number of
// seconds or a date (RFC 9110, section 10.2.3), or 0.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		const most = 365 * 24 * 3600 // a number that doesn't overflow
		return time.Duration(min(max(seconds, 0), most)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
