// Package wire injects faults where a process meets the world: at its
// connections to Postgres and at its requests to Stripe. Both wrappers are
// ordinary constructor arguments, so the code under test carries no fail points,
// and a boundary that is written tomorrow is covered tomorrow.
//
// A message is what one side sends before it waits for the other. Messages are
// counted from 1, over all connections of a Postgres or all requests of a
// Transport, in the order in which they are sent.
package wire

// A Fault is what happens to one message.
type Fault struct {
	Kind Kind
	// Hold is called where a message is held, and returns when it may go on.
	Hold func()
}

// Kind says which fault.
type Kind int

const (
	// Pass lets the message and its answer through.
	Pass Kind = iota
	// CutBefore cuts the connection; the other side never sees the message.
	CutBefore
	// CutAfter lets the message through, waits until the other side has answered,
	// and cuts the connection before the answer is read.
	CutAfter
	// CutSent lets the message through and cuts the connection at once: the other
	// side acts, or not, after this side has given up.
	CutSent
	// HoldBefore holds the message before it is sent.
	HoldBefore
	// HoldAfter holds the answer after the other side has acted.
	HoldAfter
)

// String names the kind as replay commands spell it.
func (k Kind) String() string {
	return [...]string{"pass", "cut-before", "cut-after", "cut-sent", "hold-before", "hold-after"}[k]
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
