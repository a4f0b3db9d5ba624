package phases

import "time"

// An Outcome is what a phase decided. The zero value is no outcome: a phase
// that returns it without an error is a mistake and ends its attempt.
type Outcome struct {
	kind   outcomeKind
	answer Answer
	after  time.Duration
	ref    string
	reason string
	detail string
}

type outcomeKind int

const (
	outcomeNone outcomeKind = iota
	outcomeAdvance
	outcomeFinish
	outcomeWait
	outcomePark
)

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
func Advance() Outcome { return Outcome{kind: outcomeAdvance} }

// Finish ends the key with an answer, from whatever phase it is returned.
func Finish(status int, headers map[string]string, body []byte) Outcome {
	return Outcome{kind: outcomeFinish, answer: Answer{Status: status, Headers: headers, Body: body}}
}

// Wait keeps the key where it is, because the other side is still working:
// the completer comes back after the given time and looks up ref with Find
// instead of sending again. What the phase queued is committed.
func Wait(after time.Duration, ref string) Outcome {
	return Outcome{kind: outcomeWait, after: after, ref: ref}
}

// Park stops the key where it is until a person decides. Reason is one short
// word for metrics and operators, such as "stripe_mismatch"; detail is a line
// for whoever decides. What the phase queued is committed.
func Park(reason, detail string) Outcome {
	return Outcome{kind: outcomePark, reason: reason, detail: detail}
}
