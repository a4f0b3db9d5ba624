// Package wire injects faults where a process meets the world: at its
// connections to Postgres and at those to Stripe. Both wrappers are ordinary
// dialling functions, so the code under test carries no fail points, and a
// boundary that is written tomorrow is covered tomorrow.
//
// A message is what one side sends before it waits for the other: a pipeline of
// statements, or a request. Messages are counted from 1, over all connections
// of a Postgres or of an HTTP, in the order in which they are sent. A message
// and its answer consist of frames: those of Postgres's protocol, or pieces of
// an HTTP message.
package wire

// A Fault is what happens to one message.
type Fault struct {
	Kind Kind
	// Part is, for CutPart and CutAnswer, how many frames still get through,
	// from 1.
	Part int
	// Hold is called where a message is held, and returns when it may go on.
	Hold func()
	// Answered is told how many frames the message's answer had, once all of it
	// is here. Nil wants to know nothing. It must not block.
	Answered func(frames int)
}

// Kind says which fault.
type Kind int

const (
	// Pass lets the message and its answer through.
	Pass Kind = iota
	// CutBefore cuts the connection; the other side never sees the message.
	CutBefore
	// CutAfter lets the message through, waits until the other side has
	// answered, and cuts the connection before the answer is read.
	CutAfter
	// CutSent lets the message through and cuts the connection at once: the
	// other side acts, or not, after this side has given up.
	CutSent
	// CutPart lets the first frames of the message through, cuts the
	// connection, and waits until the other side has done with them what it
	// will.
	CutPart
	// CutAnswer waits until the other side has answered, lets the first frames
	// of the answer through, and cuts the connection.
	CutAnswer
	// HoldBefore holds the message before it is sent.
	HoldBefore
	// HoldAfter holds the answer after the other side has acted.
	HoldAfter
)

// Kinds returns all faults that there are, Pass left out.
func Kinds() []Kind {
	return []Kind{CutBefore, CutAfter, CutSent, CutPart, CutAnswer, HoldBefore, HoldAfter}
}

// String names the kind as replay commands spell it.
func (k Kind) String() string {
	return [...]string{
		"pass", "cut-before", "cut-after", "cut-sent", "cut-part", "cut-answer", "hold-before", "hold-after",
	}[k]
}

// A Plan decides what happens to the n-th message. It may be called by several
// goroutines, one at a time.
type Plan func(n int, message []byte) Fault

// Nothing is the plan under which everything passes.
func Nothing(int, []byte) Fault { return Fault{} }

// On is the plan under which one fault befalls the n-th message.
func On(n int, fault Fault) Plan {
	return func(at int, _ []byte) Fault {
		if at == n {
			return fault
		}
		return Fault{}
	}
}
