// Package callbacks sends a message to a URL that a client has given: to a
// stranger's server, which may be slow or hostile, or no server of the client's
// at all but one of ours. It knows neither rides nor jobs.
//
//   - url.go: which URL may be given
//   - guard.go: which address may be dialled
//   - sign.go: the signature of Standard Webhooks
//   - send.go: one attempt, and its limits
//
// # Where callbacks go
//
// Only to public addresses (I25). Without that rule a client could make this
// service call the service's own neighbours: a cloud's metadata, a database, a
// router. The URL is checked when a ride is hailed, so that a client learns of
// its mistake, and again at each attempt. But a name says nothing of the
// address that it leads to, and may lead to another one each time. What counts
// is the address itself, just before it is connected to.
//
// # Standard Webhooks
//
// The form of messages and signatures is that of
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
// version 1.0.0, for which there are libraries in every language. Tests compare
// with the one in Go. It isn't used itself: it takes one secret only, and an
// empty one as well.
package callbacks
