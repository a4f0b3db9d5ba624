package phases

import "time"

// Key is an idempotency key as the phases of its flow see it: what was asked
// for, and the durable state of the key.
type Key struct {
	// Account and Key together identify the row. Every statement that a phase
	// queues must name the account.
	Account string
	Key     string
	// RequestID identifies the request that the attempt runs for. For the
	// completer and an operator it is that of the request that made the key.
	RequestID string
	// Params is the request's canonical form, as it was stored when the key was
	// made.
	Params string
	// Trace and Async are those of the request that made the key; see Request.
	Trace string
	Async bool
	// RecoveryPoint is the last point that is durable. In a transaction that
	// passes several points it is the point before the transaction.
	RecoveryPoint string
	// CreatedAt is the time of the key's first claim, by the database's clock.
	// It is zero in the transaction that inserts the row, because the time is
	// known only when that has committed.
	CreatedAt time.Time
	// Attempts counts the claims, this one included.
	Attempts int
}
