package phases

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Call is a foreign write: a change in somebody else's system, which no
// transaction of ours can roll back. In is the encoded form that is sent. It is
// a string type and not a struct, so that what was frozen is sent byte for byte
// even after a deploy. Out is the result that the other side gave.
type Call[In ~string, Out any] struct {
	// Prepare returns the form, in the transaction that reaches the point
	// before this phase, so that the intent commits with what led to it. It
	// runs only while nothing is frozen. foreignKey is the key under which the
	// form will be sent; see the function ForeignKey. Besides Advance, Prepare
	// may return Finish or Park, which end the key before anything is sent.
	Prepare func(tx *Tx, key Key, foreignKey string) (In, Outcome, error)

	// Do sends what is frozen, while no transaction is open. A nil error means
	// that the other side gave a definitive result, good or bad. An error that
	// isn't a *CallError counts as Unknown.
	Do func(ctx context.Context, sent Sent[In]) (Out, error)

	// Find looks up whether an earlier send got through, and sends nothing that
	// could have the effect again. It replaces Do when sending is no longer
	// safe. If it has seen everything and found nothing, it returns
	// ErrNothingFound. If it has not seen everything, that is Unknown. Its ctx
	// lasts for minutes (Config.FindTimeout), so each of its requests needs a
	// time-out of its own.
	Find func(ctx context.Context, sent Sent[In]) (Out, error)

	// Record commits the result, in the transaction that reaches this phase's
	// point.
	Record func(tx *Tx, key Key, form In, out Out) (Outcome, error)
}

// Sent is what a foreign call may know: what was frozen, and what is known of
// earlier sends. Key and Form are the same in every attempt; the other fields
// are not.
type Sent[In ~string] struct {
	// Key is the idempotency key for the other side: the same for every send.
	Key string
	// Form is what is sent: the same bytes for every send.
	Form In
	// FirstSentAt is the time, by the database's clock, from which a send may
	// have happened. It stays the same once something was sent. When it is
	// certain that nothing was, the next attempt has a later time.
	FirstSentAt time.Time
	// First means that no send can have happened before this one.
	First bool
	// Ref is the other side's name for what it is still working on, from
	// Wait; empty if there is none.
	Ref string
	// WindowOver means that the form will never be sent again.
	WindowOver bool
}

// Class is what an error of a foreign call means for the other side.
type Class int

const (
	// Unknown means that it may have been done. The same form is sent again
	// under the same key, inside the window. An error without a class is
	// Unknown.
	Unknown Class = iota
	// Transient means that this send certainly did not do it. The same form is
	// sent again under the same key.
	Transient
	// LookUp means that it may have been done, and that sending it again could
	// not tell, or could do it twice. From now on the call is looked up with
	// Find instead.
	LookUp
)

// A CallError is the error of Do and Find when there is no definitive result.
type CallError struct {
	Class Class
	// Err says what happened. It is logged and stored with the key, so it must
	// hold no secret.
	Err error
	// Backoff replaces the engine's back-off, if the other side asks for
	// another one. The zero value doesn't.
	Backoff Backoff
	// Reason is what the key is parked for: for LookUp if nothing is found, and
	// with Counts after Config.MaxAttempts.
	Reason string
	// Counts means that the call would fail again with the same input, because
	// the other side refuses it. The completer counts such failures, and parks
	// the key for Reason when there were enough. A client's retries never
	// count.
	Counts bool
	// Patience, for LookUp, is how long after the first send the call is
	// looked up again if nothing is found.
	Patience time.Duration
}

func (e *CallError) Error() string { return e.Err.Error() }

func (e *CallError) Unwrap() error { return e.Err }

// ErrNothingFound is returned by Find when it has seen everything that an
// earlier send can have left, and there is nothing conclusive. It is no proof
// that nothing will appear later, so it never leads to another send.
var ErrNothingFound = errors.New("nothing found at the other side")

// String names the class as it appears in logs and metrics.
func (c Class) String() string {
	switch c {
	case Transient:
		return "transient"
	case LookUp:
		return "look_up"
	default:
		return "unknown"
	}
}

// ForeignKey returns the idempotency key under which flow's call that reaches
// point is sent for the client's key of an account: 64 hexadecimal digits.
//
// It is a pure function of the flow and of what the client controls: there is
// no row id, sequence, clock or secret in it. So a row that is lost in a
// fail-over and made again by a retry sends under the same key, and the other
// side replays its first answer.
func ForeignKey(flow, point, account, key string) string {
	digest := Digest(flow, point, account, key)
	return string(hex.AppendEncode(make([]byte, 0, 2*sha256.Size), digest[:])) // made on the stack
}

// Digest returns the SHA-256 of parts, each prefixed by its length. So two
// different lists of parts never have the same bytes: "ab", "c" and "a", "bc"
// have different digests.
func Digest(parts ...string) [sha256.Size]byte {
	text := make([]byte, 0, 512) // on the stack
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// DerivedID returns an id that is a pure function of its arguments: the prefix
// and 26 characters, which are base32hex in lower case (RFC 4648). A transaction
// that runs again makes the same ids.
func DerivedID(prefix string, parts ...string) string {
	digest := Digest(append(append(make([]string, 0, 8), prefix), parts...)...)
	return string(idEncoding.AppendEncode(append(make([]byte, 0, 64), prefix...), digest[:16])) // made on the stack
}

//nolint:gochecknoglobals // a constant, in effect
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// classify returns err as a *CallError. An error without a class is Unknown.
func classify(err error) *CallError {
	if call, ok := errors.AsType[*CallError](err); ok {
		return call
	}
	return &CallError{Class: Unknown, Err: fmt.Errorf("unclassified: %w", err)}
}
