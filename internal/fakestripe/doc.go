// Package fakestripe is a stateful fake of the part of Stripe's API v1 that
// charges, lists, cancels and refunds payments, for tests and for machines
// without a network. It is written from Stripe's documentation
// (https://docs.stripe.com/api, version 2023-10-16) and knows nothing of the
// service that it tests.
//
// It is stricter than Stripe where strictness finds bugs: a parameter that it
// does not model is an error, so is one given twice, and an idempotency key is
// forgotten exactly 24 hours after its answer was saved, the earliest moment
// that Stripe allows itself.
//
// # What it promises
//
// A [Server] with a directory keeps everything in an append-only journal there
// and syncs it before an answer leaves. So a kill -9 at any moment loses no
// effect and no saved key that somebody was told of. What it has read, it
// executes, even if the client has gone away meanwhile: that is what makes a
// broken connection ambiguous.
//
// The ledger ([Server.Ledger]) has every write request in the order of arrival,
// and [Server.Charges] counts the succeeded charges of each ride: the number
// that must never exceed one.
//
// # Idempotency
//
// The layer follows https://docs.stripe.com/api/idempotent_requests and
// https://docs.stripe.com/error-low-level. Where these leave a choice:
//
//   - What began to execute is saved: 200, 402 and 500. No other 4xx is, also
//     not one for a reference to nothing or for an object in the wrong state,
//     except where a fault wants it: Stripe saves some 400s.
//   - A request whose key is in use is a 409 whatever its parameters are.
//   - Parameters are compared by name and value. The order of different names
//     does not matter; that of the values of one list does.
//
// # Departures
//
// Faults are scripted with [Server.Script] or POST /_fake/faults. They are kept
// in memory only, as are the reads in the ledger. There is one Stripe account,
// and an empty one that only the keys sk_test_other… open. There is no rate
// limit but a scripted one, and there are no webhooks. Objects show the fields
// that a payment by card fills; balance transactions, receipts and the like are
// left out.
package fakestripe
