package phases

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Call is a foreign write: a change in somebody else's system, which no
// transaction of ours can roll back. In is the encoded form that is sent, a
// string type of the caller's, so that what was frozen is sent byte for byte
// whatever a deploy changes; Out is what the other side said.
type Call[In ~string, Out any] struct {
	// Prepare returns the form, in the transaction that reaches the point
	// before this phase, so that the intent commits with what led to it. It
	// runs only while nothing is frozen. foreignKey is the key under which the
	// form will be sent; see ForeignKey. Besides Advance, Prepare may return
	// Finish or Park, which end the key before anything is sent.
	Prepare func(tx *Tx, key Key, foreignKey string) (In, Outcome, error)

	// Do sends what is frozen, with no transaction in reach. A nil error means
	// that the other side gave a definitive result, good or bad. An error is a
	// *CallError or counts as Unknown.
	Do func(ctx context.Context, sent Sent[In]) (Out, error)

	// Find looks whether an earlier send got through, and sends nothing that
	// could have the effect again. It replaces Do when sending is no longer
	// safe. Having seen everything and found nothing it returns
	// ErrNothingFound; not having seen everything is Unknown.
	Find func(ctx context.Context, sent Sent[In]) (Out, error)

	// Record commits the result, in the transaction that reaches this phase's
	// point.
	Record func(tx *Tx, key Key, form In, out Out) (Outcome, error)
}

// Sent is what a foreign call may know: what was frozen, and what is known of
// earlier sends. Nothing in it changes from one attempt to the next but the
// last three fields.
type Sent[In ~string] struct {
	// Key is the idempotency key for the other side: the same for every send.
	Key string
	// Form is what is sent: the same bytes for every send.
	Form In
	// FirstSentAt is the time, by the database's clock, from which a send may
	// have happened.
	FirstSentAt time.Time
	// First tells that no send can have happened before this one.
	First bool
	// Ref is the other side's name for what it is still working on, from
	// Wait; empty when there is none.
	Ref string
	// WindowOver tells Find that the form will never be sent again.
	WindowOver bool
}

// Class says what an error of a foreign call means for the world outside.
type Class int

const (
	// Unknown means that it may have been done. The same form is sent again
	// under the same key, inside the window. Whatever isn't classified is
	// Unknown.
	Unknown Class = iota
	// Transient means that it was certainly not done by this send. Same key,
	// same form.
	Transient
	// LookUp means that it may have been done, and sending again could not tell
	// or could do it twice. From now on the call is looked up with Find
	// instead.
	LookUp
)

// A CallError is how Do and Find report anything but a definitive result.
type CallError struct {
	Class Class
	// Err says what happened. It is logged and stored with the key, so it must
	// hold no secret.
	Err error
	// Backoff overrides the engine's back-off, where the other side asks for
	// another one. The zero value doesn't.
	Backoff Backoff
	// Reason is, for LookUp, what the key is parked for when nothing is found.
	Reason string
	// Patience is, for LookUp, how long after the first send "nothing found"
	// is no proof yet and is answered by looking again.
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
// It is a pure function of what the client controls and of the flow: no row id,
// no sequence, no clock, no secret. So a row that is lost in a fail-over and
// made again by a retry sends under the same key, and the other side replays
// its first answer.
func ForeignKey(flow, point, account, key string) string {
	digest := Digest(flow, point, account, key)
	return hex.EncodeToString(digest[:])
}

// Digest returns the SHA-256 of parts, each prefixed by its length, so that no
// two lists of parts run together into the same bytes.
func Digest(parts ...string) [sha256.Size]byte {
	var text []byte
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// classify returns err as a *CallError: what a call didn't classify is Unknown.
func classify(err error) *CallError {
	if call, ok := errors.AsType[*CallError](err); ok {
		return call
	}
	return &CallError{Class: Unknown, Err: fmt.Errorf("unclassified: %w", err)}
}
