// Package web holds what any JSON API with idempotency keys needs, whatever the
// API is about.
//
// A [Router] serves [Handler] functions. It gives each request its id, logs and
// counts it once, turns a panic into an error, and writes what a handler
// refuses.
//
//   - router.go: routes, 404 and 405, and what happens around a handler
//   - record.go, metrics.go: what the log and the metrics say about a request
//   - answer.go: answers, those that are stored with a key included
//   - problem.go: the table of problems (RFC 9457)
//   - guide.go, problem_page.go, problem.html: the page of each problem
//   - file.go: answers that are the same for everybody
//   - refusal.go: which error is which problem
//   - crowd.go: requests that are refused before they are looked at
//   - limit.go: who the client is, and how many requests it may send
//   - query.go: the query parameters of a route
//   - body.go, canonical.go: the body of a request, its canonical form
//     (RFC 8785), and the hash of a request
//   - wait.go: what a handler needs that waits, and streams of events
//   - idempotency_key.go, prefer.go: request headers
package web
