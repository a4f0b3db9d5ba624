// Package fakestripe is a stateful fake of the part of Stripe's API v1 that
// charges, lists, cancels, refunds and disputes payments, for tests and for
// machines without a network. It is written from Stripe's documentation
// (https://docs.stripe.com/api, version 2023-10-16). All that it knows of the
// service that it tests is that metadata[ride_id] names the ride of a payment.
//
// It is stricter than Stripe where that finds bugs. A parameter that it does
// not know is an error, and so is one that is sent twice. An idempotency key is
// forgotten exactly 24 hours after its answer was saved, which is the earliest
// moment that Stripe allows itself.
//
// # What it promises
//
// A [Server] with a directory keeps everything in an append-only journal there,
// and syncs it before an answer leaves. So a kill -9 at any moment loses no
// effect and no saved key that an answer has shown. A request that it has read
// as a whole is executed even if the client goes away. That is what makes a
// broken connection ambiguous.
//
// The ledger ([Server.Ledger]) has every write request in the order of arrival.
// [Server.Charges] counts the succeeded charges of each ride, which must never
// be more than one.
//
// # Idempotency
//
// The idempotency layer follows https://docs.stripe.com/api/idempotent_requests
// and https://docs.stripe.com/error-low-level. Where these leave a choice:
//
//   - The answer to a request that began to execute is saved: a 200, a 402 or a
//     500. No other 4xx is saved, not even one for an object that does not
//     exist or is in the wrong state, unless a fault says so: Stripe saves some
//     400s.
//   - A request whose key is in use gets a 409, whatever its parameters are.
//   - Parameters are compared by name and value. The order of different names
//     does not matter. The order of the values of one list does.
//
// # How it differs from Stripe
//
// Events are sent to webhook endpoints as snapshot events, as thin ones, or
// both, late, several times, shuffled or never: see [EventRule]. Only the types
// that tell of a payment's end, a refund or a dispute exist.
//
// Faults are scripted with [Server.Script] or POST /_fake/faults. They are kept
// in memory only, as are the reads in the ledger. There is one Stripe account,
// and an empty one that only keys sk_test_other… open. Limits of requests a
// second are off unless [Server.Limit] or a flag sets them; of concurrent
// requests there is no limit. Objects show the fields that a payment by card
// fills. Balance transactions, receipts and the like are left out.
package fakestripe
