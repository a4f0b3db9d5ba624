// Package web holds what any JSON API with idempotency keys needs: problems
// (RFC 9457), the canonical form of a document (RFC 8785) and its hash, and the
// headers Idempotency-Key, Prefer and traceparent.
package web
