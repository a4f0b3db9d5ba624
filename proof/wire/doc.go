// Package wire injects faults into the connections of a process: to Postgres
// and to Stripe. Both wrappers are ordinary dial functions, so the code under
// test has no fail points, and new code is covered as soon as it is written.
//
// A message is what one side sends before it waits for the other side: a
// pipeline of statements, or a request. Messages are counted from 1, over all
// connections of a [Postgres] or of an [HTTP], in the order in which they are
// sent. A message and its answer consist of frames: those of Postgres's
// protocol, or pieces of an HTTP message.
package wire

// A Fault is what happens to one message.
type Fault struct {
	Kind Kind
	// Part is for CutPart and CutAnswer: how many frames still get through, at
	// least 1.
	Part int
	// Hold is called if a message is held. When it returns, the message goes
	// on.
	Hold func()
	// Answered is called with the number of frames of the answer, when the
	// whole answer has arrived. It may be nil, and must not block.
	Answered func(frames int)
}

// Kind is the kind of a fault.
type Kind int

const (
	// Pass lets the message and its answer through.
	Pass Kind = iota
	// CutBefore cuts the connection; the other side never sees the message.
	CutBefore
	// CutAfter lets the message through, waits until the other side has
	// answered, and cuts the connection before the answer is read.
	CutAfter
	// CutSent lets the message through and cuts the connection at once. If the
	// other side acts, it does so after this side has given up.
	CutSent
	// CutPart lets the first frames of the message through, cuts the
	// connection, and waits until the other side has finished with them.
	CutPart
	// CutAnswer waits until the other side has answered, lets the first frames
	// of the answer through, and cuts the connection.
	CutAnswer
	// HoldBefore holds the message before it is sent.
	HoldBefore
	// HoldAfter holds the answer after the other side has acted.
	HoldAfter
)

// Kinds returns all kinds except Pass.
func Kinds() []Kind {
	return []Kind{CutBefore, CutAfter, CutSent, CutPart, CutAnswer, HoldBefore, HoldAfter}
}

// String returns the name of the kind.
func (k Kind) String() string {
	return [...]string{
		"pass", "cut-before", "cut-after", "cut-sent", "cut-part", "cut-answer", "hold-before", "hold-after",
	}[k]
}

// A Plan returns the fault that strikes the n-th message. It may be called by
// several goroutines, one at a time.
type Plan func(n int, message []byte) Fault

// Nothing is the plan without faults.
func Nothing(int, []byte) Fault { return Fault{} }

// On returns the plan with one fault, which strikes the n-th message.
func On(n int, fault Fault) Plan {
	return func(at int, _ []byte) Fault {
		if at == n {
			return fault
		}
		return Fault{}
	}
}
