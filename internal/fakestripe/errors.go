package fakestripe

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// errClosed means that the server was closed: nothing is executed any more, and
// requests that wait get no answer, as if the process had been killed.
var errClosed = errors.New("the fake Stripe is closed")

// The types of error that Stripe documents.
const (
	typeAPI         = "api_error"
	typeCard        = "card_error"
	typeIdempotency = "idempotency_error"
	typeInvalid     = "invalid_request_error"
)

// failure is Stripe's error object, as an answer and as the last_payment_error
// of a payment intent (https://docs.stripe.com/api/errors).
type failure struct {
	Charge        string         `json:"charge,omitempty"`
	Code          string         `json:"code,omitempty"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	DocURL        string         `json:"doc_url,omitempty"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitempty"`
	PaymentIntent *paymentIntent `json:"payment_intent,omitempty"`
	PaymentMethod *methodShape   `json:"payment_method,omitempty"`
	Type          string         `json:"type"`
}

// apiError is an answer other than 200.
type apiError struct {
	failure

	status int
	// retry is the Stripe-Should-Retry header: "true", "false", or "" if Stripe
	// leaves it to the client to decide by the status.
	retry string
	// retryAfter is the Retry-After header; 0 sends none.
	retryAfter time.Duration
	// began is set if the request had begun to execute although the status does
	// not show it.
	began bool
}

// Error returns the status and the message.
func (e *apiError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.Message) }

// executed reports whether the request had begun to execute, so that its answer
// is saved under its key.
func (e *apiError) executed() bool {
	return e.began || e.status == http.StatusPaymentRequired || e.status == http.StatusInternalServerError
}

// refuse returns an error with a status and a type. The code may be empty.
func refuse(status int, kind, code, format string, args ...any) *apiError {
	e := &apiError{status: status}
	e.Type, e.Code, e.Message = kind, code, fmt.Sprintf(format, args...)
	e.DocURL = docURL(code)
	return e
}

// docURL returns the address of Stripe's page about a code.
func docURL(code string) string {
	if code == "" {
		return ""
	}
	return "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(code, "_", "-")
}

// invalid returns the 400 for a parameter.
func invalid(param, code, format string, args ...any) *apiError {
	e := refuse(http.StatusBadRequest, typeInvalid, code, format, args...)
	e.Param = param
	return e
}

// missing returns the 400 for a required parameter that was not sent.
func missing(param string) *apiError {
	return invalid(param, "parameter_missing", "Missing required param: %s.", param)
}

// noSuch returns the 400 for a parameter that names an object that does not
// exist.
func noSuch(what, id, param string) *apiError {
	return invalid(param, "resource_missing", "No such %s: '%s'", what, id)
}

// notFound returns the 404 for a path that names an object that does not exist.
func notFound(what, id string) *apiError {
	e := noSuch(what, id, "id")
	e.status = http.StatusNotFound
	return e
}

// unexpectedState returns the 400 for something that a payment intent does not
// allow in its present status.
func unexpectedState(pi *paymentIntent, format string, args ...any) *apiError {
	e := invalid("", "payment_intent_unexpected_state", format, args...)
	e.PaymentIntent = pi
	return e
}

// cardError returns the 402 for a declined card. The payment intent may be nil.
func cardError(f failure, pi *paymentIntent) *apiError {
	e := &apiError{status: http.StatusPaymentRequired, retry: "false", failure: f}
	e.PaymentIntent = pi
	return e
}

// unrecognized returns the 404 for a route that does not exist.
func unrecognized(method, path string) *apiError {
	return refuse(http.StatusNotFound, typeInvalid, "",
		"Unrecognized request URL (%s: %s). If you are trying to list objects, remove the trailing slash. "+
			"If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in your code. "+
			"Please see https://stripe.com/docs or we can help at https://support.stripe.com/.", method, path)
}

// keyInUse returns the 409 for a key whose first request is still executed.
func keyInUse(key string) *apiError {
	e := refuse(http.StatusConflict, typeInvalid, "idempotency_key_in_use",
		"There is currently another in-progress request using this Idempotent Key "+
			"(that probably means you submitted twice, and the other request is still going through): %s. "+
			"Please try again later.", key)
	e.retry = "true"
	return e
}

// lockTimeout returns the error for a request that could not lock its object.
// Stripe has sent it as a 429 and as a 409.
func lockTimeout(status int) *apiError {
	e := refuse(status, typeInvalid, "lock_timeout",
		"This object cannot be accessed right now because another API request or Stripe process is currently accessing it. "+
			"If you see this error intermittently, retry the request.")
	e.retry = "true"
	return e
}

// keyReused returns the 400 for a key that was first used for another request.
func keyReused(key, first, now string) *apiError {
	sentence := "Keys for idempotent requests can only be used with the same parameters they were first used with. "
	if first != now {
		sentence = fmt.Sprintf("Keys for idempotent requests can only be used for the same endpoint they were first used for "+
			"('%s' vs '%s'). ", now, first)
	}
	e := refuse(http.StatusBadRequest, typeIdempotency, "",
		"%sTry using a key other than '%s' if you meant to execute a different request.", sentence, key)
	e.retry = "false"
	return e
}

// serverError returns the 500 that proves nothing about what happened.
func serverError() *apiError {
	return refuse(http.StatusInternalServerError, typeAPI, "", "An unknown error occurred.")
}
