package web

import "net/http"

// A Code names a kind of problem. Clients branch on it, so a code never changes
// its meaning.
type Code string

// The codes of all problems.
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

// ProblemType is the media type of every error answer.
const ProblemType = "application/problem+json"

// A Problem is the body of an error answer: the problem details of RFC 9457
// with further members. The order of the fields is their order in the body.
type Problem struct {
	Type      string `json:"type"` // "/problems/" and the code
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"` // what happened and what to do; never SQL, Stripe's JSON or a secret
	Code      Code   `json:"code"`
	RequestID string `json:"request_id"`
	// Retryable says that the same request with the same key may have another
	// outcome. It is false for an answer that is stored with the key, and for
	// one that only a different request can avoid.
	Retryable bool `json:"retryable"`
	// SafeNewKey says that nothing was charged under this request's key, and
	// nothing will be, so that a request with a new key can't charge twice. It
	// is false for every refusal before the look-up of the key: an earlier
	// request with the same key may have charged.
	SafeNewKey bool `json:"safe_new_key"`
	// Errors are the faults of invalid_parameters.
	Errors []ParamFault `json:"errors,omitempty"`
	// DeclineCode is Stripe's reason for card_declined and
	// authentication_required.
	DeclineCode string `json:"decline_code,omitempty"`
}

// A ParamFault is one thing that is wrong with a request's parameters. It never
// repeats the value that was sent.
type ParamFault struct {
	Pointer string `json:"pointer"` // the faulty field as a JSON Pointer (RFC 6901)
	Detail  string `json:"detail"`  // what the field must be, as a sentence
}

// kind is what all problems of one code have in common.
type kind struct {
	status     int
	title      string
	detail     string
	retryable  bool
	safeNewKey bool
	retryAfter int // seconds for the Retry-After header, 0 for none
}

// kinds is the table of all problems.
//
//nolint:gochecknoglobals // A table that nothing writes to; Go has no constant maps.
var kinds = map[Code]kind{
	CodeIdempotencyKeyMissing: {
		status: http.StatusBadRequest, title: "Idempotency-Key is missing", safeNewKey: true,
		detail: "This request needs an Idempotency-Key header. Send a value of your own, such as a UUID, and repeat it when you retry.",
	},
	CodeIdempotencyKeyInvalid: {
		status: http.StatusBadRequest, title: "Idempotency-Key is invalid", safeNewKey: true,
		detail: "Send one Idempotency-Key header with 1 to 255 visible ASCII characters, such as a UUID.",
	},
	CodeInvalidJSON: {
		status: http.StatusBadRequest, title: "Body is not valid JSON",
		detail: "Send one JSON object in UTF-8 in which no member is named twice.",
	},
	CodeUnauthenticated: {
		status: http.StatusUnauthorized, title: "Not authenticated",
		detail: "There is no active API key in this request. Send the header Authorization: Bearer, followed by your key.",
	},
	CodeCardDeclined: {
		status: http.StatusPaymentRequired, title: "Card declined", safeNewKey: true,
		detail: "Your account's card was declined and nothing was charged. It will most likely be declined again. " +
			"Ask the operator of this service to give your account another card, then send the request with a new Idempotency-Key.",
	},
	CodeAuthenticationRequired: {
		status: http.StatusPaymentRequired, title: "Cardholder must authenticate", safeNewKey: true,
		detail: "The bank wants the cardholder to confirm this payment, which can't be done here, and nothing was charged. " +
			"Ask the operator of this service to give your account another card, then send the request with a new Idempotency-Key.",
	},
	CodePaymentFailed: {
		status: http.StatusPaymentRequired, title: "Payment failed", safeNewKey: true,
		detail: "The payment was looked into and nothing was charged. Send the request again with a new Idempotency-Key.",
	},
	CodeNotFound: {
		status: http.StatusNotFound, title: "Not found",
		detail: "There is nothing at this address that your account can see. Check the path and the id in it; GET /docs lists what there is.",
	},
	CodeMethodNotAllowed: {
		status: http.StatusMethodNotAllowed, title: "Method not allowed",
		detail: "This address does not take this method. The Allow header names those that it takes.",
	},
	CodeRequestTimeout: {
		status: http.StatusRequestTimeout, title: "Request timed out", retryable: true,
		detail: "The body did not arrive in time. Send the request again, with the same Idempotency-Key if it has one.",
	},
	CodeIdempotencyKeyInUse: {
		status: http.StatusConflict, title: "Request is still running", retryable: true, retryAfter: 1,
		detail: "The same request is running right now. Send it again with the same Idempotency-Key after the time in Retry-After.",
	},
	CodePaymentUnderReview: {
		status: http.StatusConflict, title: "Payment under review", retryable: true, retryAfter: 60,
		detail: "This payment may have got through, and a person is looking into it. " +
			"Send the request again with the same Idempotency-Key, never with a new one, after the time in Retry-After.",
	},
	CodeRideNotCancelable: {
		status: http.StatusConflict, title: "Ride cannot be canceled",
		detail: "Only a charged ride can be canceled, and this one was not. Read the ride to see its status. " +
			"To cancel it at a later time, use a new Idempotency-Key.",
	},
	CodeBodyTooLarge: {
		status: http.StatusRequestEntityTooLarge, title: "Body too large",
		detail: "The body has more than 64 KiB. Send a smaller one.",
	},
	CodeUnsupportedMediaType: {
		status: http.StatusUnsupportedMediaType, title: "Unsupported media type",
		detail: "Send JSON in UTF-8 with the header Content-Type: application/json, and without a Content-Encoding.",
	},
	CodeInvalidParameters: {
		status: http.StatusUnprocessableEntity, title: "Invalid parameters",
		detail: "`errors` lists every fault; correct them all.",
	},
	CodeIdempotencyKeyReused: {
		status: http.StatusUnprocessableEntity, title: "Idempotency-Key is already used",
		detail: "This Idempotency-Key belongs to another request: its method, path or parameters differ. " +
			"Repeat that request unchanged, or use a new key for a new one.",
	},
	CodeIdempotencyKeyExpired: {
		status: http.StatusUnprocessableEntity, title: "Idempotency-Key has expired",
		detail: "The request with this Idempotency-Key finished long ago and its answer is no longer kept. " +
			"Find out what it did before you send a new request with a new key.",
	},
	CodeRateLimited: {
		status: http.StatusTooManyRequests, title: "Too many requests", retryable: true, retryAfter: 1,
		detail: "Your account sends requests faster than its limit. Wait for the time in Retry-After, then send the request again.",
	},
	CodeSignatureInvalid: {
		status: http.StatusBadRequest, title: "Signature is invalid",
		detail: "This address takes events of Stripe's, signed within the last five minutes with the secret of its webhook endpoint, and of at most 256 KiB.",
	},
	CodePaymentProcessorUnavailable: {
		status: http.StatusServiceUnavailable, title: "Payment not settled", retryable: true, retryAfter: 2,
		detail: "The payment processor could not be reached or gave no clear answer, so the payment is not settled yet. " +
			"Send the request again with the same Idempotency-Key after the time in Retry-After.",
	},
	CodeUnavailable: {
		status: http.StatusServiceUnavailable, title: "Service unavailable", retryable: true, retryAfter: 1,
		detail: "The service cannot work on this request at the moment. " +
			"Send it again, with the same Idempotency-Key if it has one, after the time in Retry-After.",
	},
	CodeInternal: {
		status: http.StatusInternalServerError, title: "Internal error", retryable: true,
		detail: "Something went wrong on our side. Send the request again, with the same Idempotency-Key if it has one; " +
			"if it keeps failing, give us the request_id.",
	},
}

// NewProblem returns the problem of a code with its standard text and without
// the id of a request. It panics for a code that is not in the table, because
// that is a mistake in this program.
func NewProblem(code Code) Problem {
	kind, ok := kinds[code]
	if !ok {
		panic("web: no problem has the code " + string(code))
	}
	return Problem{
		Type: "/problems/" + string(code), Title: kind.title, Status: kind.status, Detail: kind.detail, Code: code,
		Retryable: kind.retryable, SafeNewKey: kind.safeNewKey,
	}
}

// Encode returns the problem as the body of an answer: one line of JSON. The
// same problem always gives the same bytes.
func (p Problem) Encode() []byte {
	body, err := EncodeJSON(p)
	if err != nil { // A problem has nothing that JSON cannot hold.
		panic("web: encoding a problem: " + err.Error())
	}
	return body
}
