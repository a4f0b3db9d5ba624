package phases

import "time"

// An Outcome is what a phase decided. The zero value is no outcome: a phase
// that returns it without an error is a mistake and ends its attempt.
type Outcome struct{ ending *ending }

// Answer is the definitive answer to a request. Once committed it is replayed,
// byte for byte, until the key is reaped.
type Answer struct {
	// Status is the answer's status, in the numbers of HTTP.
	Status int
	// Headers are the few headers that belong to the answer itself.
	Headers map[string]string
	Body    []byte
}

// Advance moves the key to the phase's recovery point.
func Advance() Outcome { return Outcome{&advanced} }

//nolint:gochecknoglobals // a constant, in effect
var advanced = ending{kind: endAdvanced}

// Finish ends the key with an answer, from whatever phase it is returned.
func Finish(status int, headers map[string]string, body []byte) Outcome {
	return Outcome{&ending{kind: endFinished, answer: Answer{Status: status, Headers: headers, Body: body}}}
}

// Wait leaves the key where it is, because the other side is still working. The
// completer comes back after the given time and looks ref up with Call.Find
// instead of sending again. With an empty ref, the other side is working on
// something else, which may make the call unnecessary: the form is sent again.
// What the phase queued is committed.
func Wait(after time.Duration, ref string) Outcome {
	return Outcome{&ending{kind: endReleased, after: after, ref: ref, reason: "waiting for the other side"}}
}

// Park stops the key where it is until a person decides. reason is one short
// word for metrics and operators, such as "stripe_mismatch"; detail is a line
// for the person who decides. What the phase queued is committed.
func Park(reason, detail string) Outcome {
	return Outcome{&ending{kind: endParked, reason: reason, detail: detail}}
}

// An ending is how a transaction leaves its key. It is large, and many
// functions pass it on while a request goes deepest into its stack, so they
// pass its address. One that a phase returned may be returned again, and is
// never changed.
type ending struct {
	kind endingKind
	// point is where an advanced key stands.
	point string
	// foreignKey and form are the foreign call that the transaction freezes, if
	// it freezes one.
	foreignKey, form *string
	// calls means that a send follows the transaction, which therefore says in
	// calling_until how long that may take.
	calls bool
	// answer is that of a finished key. replayed means that it was read from
	// the row and that another attempt wrote it.
	answer   Answer
	replayed bool
	// after is how long the completer leaves a released key alone; for
	// endLookUp it is CallError.Patience.
	after time.Duration
	// reason and detail say why a key was released or parked, or why its call
	// is looked up.
	reason, detail string
	// ref is the other side's name for the call that a released key waits for.
	ref string
	// failures is 1 when a released key's failure counts towards parking.
	failures int
	// neverSent means that no send can have happened: first_sent_at of a
	// released or parked key is cleared.
	neverSent bool
	// row is the row as it was read after a doubt.
	row *reading
}

type endingKind int

const (
	endNone     endingKind = iota
	endAdvanced            // the key goes on under the same claim
	endLookUp              // the key goes on, and its call is only looked up from now on
	endFinished            // the key has its answer
	endReleased            // nobody holds the key
	endParked              // the key waits for a person
	endExpired             // the key was used and reaped before
)

// final reports whether the attempt is over.
func (e *ending) final() bool { return e.kind > endLookUp }
