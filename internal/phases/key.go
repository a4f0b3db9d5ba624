package phases

import "time"

// Key is an idempotency key as the phases of its flow see it: what was asked,
// and what is durable about where it stands.
type Key struct {
	// Account and Key together name the row. Every statement that a phase
	// queues names the account.
	Account string
	Key     string
	// RequestID names the request that the attempt runs for. Where no client
	// waits, as with the completer, it names the one that made the key.
	RequestID string
	// Params is the request's canonical form, as it was stored when the key was
	// claimed first.
	Params string
	// RecoveryPoint is the last point that is durable. In a transaction that
	// passes several points it is the point before the transaction.
	RecoveryPoint string
	// CreatedAt is the key's first claim by the database's clock. It is zero in
	// the transaction that makes the row, which learns it only by committing.
	CreatedAt time.Time
	// Attempts counts the claims, this one included.
	Attempts int
}
