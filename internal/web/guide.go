package web

// A keyAdvice says which Idempotency-Key comes next.
type keyAdvice string

// What to do with the key after a problem.
const (
	sameKey    keyAdvice = "Send the same request with the same key."
	mendedKey  keyAdvice = "Send the corrected request with the same key."
	unusedKey  keyAdvice = "Keep the key: it was not used up. A new one is safe if `safe_new_key` is true."
	newKey     keyAdvice = "Use a new key for the next request. This one has its answer."
	lookFirst  keyAdvice = "Use a new key only after you have looked the ride up."
	validKey   keyAdvice = "Send a valid key of your own, and store it before you send it."
	ownKey     keyAdvice = "Use the key with its own request, or a new key for a new one."
	asItIs     keyAdvice = "Keep the key, if the request has one. It was not looked at."
	noKey      keyAdvice = "No key is involved."
	byRetryKey keyAdvice = "With `Retry-After` in the answer, send the same request with the same key. Without it, this key has its answer."
)

// A guide is what the page of a problem says besides what the problem itself
// says. Names of fields and headers are between backquotes.
type guide struct {
	happened string
	todo     string
	key      keyAdvice
}

// guides are the guides of all problems.
//
//nolint:gochecknoglobals // A table that nothing writes to; Go has no constant maps.
var guides = map[Code]guide{
	CodeIdempotencyKeyMissing: {
		"The request has no `Idempotency-Key` header. Without one, a retry could charge twice, so nothing was done.",
		"Make a key for each ride that a person wants, such as a UUID, store it, and send it with the request and with every retry.",
		validKey,
	},
	CodeIdempotencyKeyInvalid: {
		"The `Idempotency-Key` header can't be a key: it is empty or too long, has a character that a key can't have, was sent twice, or is a programming language's word for nothing, such as `undefined`. Nothing was done.",
		"Send one header with 1 to 255 visible ASCII characters, without quotation mark, comma and backslash. A UUID is good.",
		validKey,
	},
	CodeInvalidJSON: {
		"The body is not one JSON object in UTF-8, names a member twice, or did not arrive whole. The key was not looked at.",
		"Correct the body and send it. If `retryable` is true, the body's chunked coding was broken on its way: send it again as it is.",
		mendedKey,
	},
	CodeUnauthenticated: {
		"The request has no API key that is valid: it is missing, malformed, unknown, revoked or for the other mode, or its account is disabled.",
		"Send the header `Authorization: Bearer`, followed by your API key. If that is what you did, ask the operator of this service for a new one.",
		asItIs,
	},
	CodeCardDeclined: {
		"The bank declined the card of your account. Nothing was charged, and nothing will be under this key. `decline_code` is Stripe's reason.",
		"Read `detail`. Mostly the account needs another card, which the operator of this service can give it; after `try_again_later` or `processing_error` the same card may work in a while.",
		newKey,
	},
	CodeAuthenticationRequired: {
		"The bank wants the cardholder to confirm the payment, which can't be done here. Nothing was charged, and nothing will be under this key.",
		"Ask the operator of this service to give your account another card, then send the request again.",
		newKey,
	},
	CodePaymentFailed: {
		"The payment could not be made, and the card is not at fault: Stripe doesn't know the customer or the payment method of your account any more, or a person has looked into the payment. Nothing was charged, and nothing will be under this key.",
		"Read `detail`. Send the request again, if need be after the operator of this service has mended your account.",
		newKey,
	},
	CodeNotFound: {
		"There is nothing at this address that your account can see. Rides of other accounts are not found either.",
		"Check the path and the id in it, and that the API key belongs to the account that hailed the ride.",
		noKey,
	},
	CodeMethodNotAllowed: {
		"The path exists, but doesn't take this method.",
		"Use one of the methods in the `Allow` header.",
		noKey,
	},
	CodeRequestTimeout: {
		"The body of the request did not arrive within 10 seconds.",
		"Send the request again.",
		sameKey,
	},
	CodeIdempotencyKeyInUse: {
		"The same request is running right now: an earlier send of it has not ended, or its process died and its lease has not run out.",
		"Wait for the time in `Retry-After`, then send the request again, or send it with `Prefer: wait=10`. A client that obeys `Retry-After` eight times gets the answer even if the process died.",
		sameKey,
	},
	CodePaymentUnderReview: {
		"What became of this payment is unclear, and a person decides. The card may have been charged.",
		"Wait for the time in `Retry-After`, then send the request again, or read the ride until its status is no longer `under_review`.",
		sameKey,
	},
	CodeRideNotCancelable: {
		"The ride can't be canceled, or not now. `detail` says why: it was declined or is canceled already, Stripe refused the refund, it is not charged yet, is under review, is being canceled under another key, or the cardholder contests the charge.",
		"With `Retry-After` in the answer the reason may pass: send the request again after that time. Without it, read the ride; a later cancel needs a new key.",
		byRetryKey,
	},
	CodeBodyTooLarge: {
		"The body has more than 64 KiB. It was not read, and the key was not looked at.",
		"Send a smaller body.",
		mendedKey,
	},
	CodeUnsupportedMediaType: {
		"The body is not declared as JSON in UTF-8, or it is compressed. The header `Accept` or `Accept-Encoding` says what would have been right.",
		"Send the header `Content-Type: application/json`, and no `Content-Encoding`.",
		mendedKey,
	},
	CodeInvalidParameters: {
		"Fields of the body, or query parameters, are missing, unknown or out of range. `errors` lists them, each with a JSON Pointer and what is expected.",
		"Correct all of them and send the request.",
		unusedKey,
	},
	CodeIdempotencyKeyReused: {
		"This key was used for a request with another method, path or body. That request is not touched.",
		"If you wanted the answer of that request, send it unchanged. `null` and a missing member differ; the order of members doesn't matter.",
		ownKey,
	},
	CodeIdempotencyKeyExpired: {
		"The request with this key ended long ago, and its answer is no longer kept. It may have charged the card.",
		"Read its outcome with `GET /v1/rides?idempotency_key=` and this key.",
		lookFirst,
	},
	CodeRateLimited: {
		"Your account, or your address if there was no valid API key, sends more requests than it may. The key was not looked at.",
		"Wait for the time in `Retry-After`, then send the request again. `RateLimit` in answers to your account says what is left.",
		sameKey,
	},
	CodeSignatureInvalid: {
		"The body was not signed by Stripe within the last five minutes with a secret that this service knows, or it has more than 256 KiB. Only Stripe sends here.",
		"Check that `STRIPE_WEBHOOK_SECRET` is the secret of the webhook endpoint, and that the clock is right. Stripe sends the event again by itself.",
		noKey,
	},
	CodePaymentProcessorUnavailable: {
		"Stripe could not be reached or gave no clear answer, so it is not known yet whether the card was charged. The service goes on by itself until it is.",
		"Wait for the time in `Retry-After`, then send the request again.",
		sameKey,
	},
	CodeUnavailable: {
		"The service can't work on the request at the moment: its database is out of reach, it is full, charges are switched off, or the process stops.",
		"Wait for the time in `Retry-After`, then send the request again.",
		sameKey,
	},
	CodeInternal: {
		"A mistake of the service. It is logged. Whether the card was charged is not known yet; the service goes on by itself until it is.",
		"Send the request again. If it keeps failing, give the operator of this service the `request_id`.",
		sameKey,
	},
}
