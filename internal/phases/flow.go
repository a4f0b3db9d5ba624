package phases

import (
	"context"
	"fmt"
)

// Recovery points that every flow has. A flow's own points lie between them.
const (
	// Started is the point of a key that exists and for which nothing was done.
	Started = "started"
	// Finished is the point of a key that has its answer.
	Finished = "finished"
)

// A Flow is what a request does, as a list of phases. Each phase is named for
// the recovery point that it reaches, and starts from the point before it. A
// Flow is immutable and safe for concurrent use.
type Flow struct {
	name    string
	version int
	phases  []Phase
}

// A Phase takes a key from one recovery point to the next. Atomic and Foreign
// make the two kinds of phases.
type Phase struct {
	point string
	// One of these two is set.
	atomic  AtomicFunc
	foreign *foreign
}

// An AtomicFunc is the body of an atomic phase: it queues statements on tx,
// which all commit together with the move to the phase's point, or not at all.
//
// It can neither begin nor commit a transaction, and must not keep tx. It may
// run more than once for one key: when a transaction is run again, or when the
// process died before the commit. So everything that it does besides tx must be
// a pure function of key.
type AtomicFunc func(tx *Tx, key Key) (Outcome, error)

// NewFlow returns the flow name in the given version. The version is stored
// with every key and never reused for another list of points: a binary resumes
// only the versions it knows, so that old and new binaries can share a database
// during a deploy.
//
// It panics if the list is no flow: if it has no phase, an empty or repeated
// point, or a last point other than Finished, or if the version is below 1.
// Those are mistakes of the programmer and show at start-up.
func NewFlow(name string, version int, list ...Phase) Flow {
	if name == "" || version < 1 || len(list) == 0 {
		panic(fmt.Sprintf("phases: flow %q version %d with %d phases", name, version, len(list)))
	}
	seen := map[string]bool{Started: true, "": true}
	for _, phase := range list {
		if seen[phase.point] {
			panic(fmt.Sprintf("phases: flow %q: point %q is empty, reserved or repeated", name, phase.point))
		}
		seen[phase.point] = true
	}
	if last := list[len(list)-1].point; last != Finished {
		panic(fmt.Sprintf("phases: flow %q ends at %q, not at %q", name, last, Finished))
	}
	return Flow{name: name, version: version, phases: list}
}

// Atomic returns a phase that reaches point by one transaction.
func Atomic(point string, run AtomicFunc) Phase {
	return Phase{point: point, atomic: run}
}

// Name returns the flow's name, as it is stored with its keys.
func (f Flow) Name() string { return f.name }

// Version returns the flow's version, as it is stored with its keys.
func (f Flow) Version() int { return f.version }

// RecoveryPoints returns Started and then every point of the flow, in order.
func (f Flow) RecoveryPoints() []string {
	points := []string{Started}
	for _, phase := range f.phases {
		points = append(points, phase.point)
	}
	return points
}

// after returns the phase that starts from point. For a point that the flow
// lacks it returns an error: nobody can know how such a key goes on.
func (f Flow) after(point string) (Phase, error) {
	if point == Started {
		return f.phases[0], nil
	}
	for i, phase := range f.phases[:len(f.phases)-1] {
		if phase.point == point {
			return f.phases[i+1], nil
		}
	}
	return Phase{}, fmt.Errorf("flow %s/%d has no phase that starts from %q", f.name, f.version, point)
}

// Foreign returns a phase that reaches point by one call to somebody else's
// system. The call is made between two transactions: its intent is committed
// before it and its result after it.
func Foreign[In ~string, Out any](point string, call Call[In, Out]) Phase {
	return Phase{point: point, foreign: &foreign{
		prepare: func(tx *Tx, key Key, foreignKey string) (string, Outcome, error) {
			form, outcome, err := call.Prepare(tx, key, foreignKey)
			return string(form), outcome, err
		},
		do: func(ctx context.Context, sent Sent[string]) (any, error) {
			return call.Do(ctx, typed[In](sent))
		},
		find: func(ctx context.Context, sent Sent[string]) (any, error) {
			return call.Find(ctx, typed[In](sent))
		},
		record: func(tx *Tx, key Key, form string, out any) (Outcome, error) {
			result, ok := out.(Out)
			if !ok {
				return Outcome{}, fmt.Errorf("recording %T where the flow wants %T", out, result)
			}
			return call.Record(tx, key, In(form), result)
		},
	}}
}

// foreign is a Call without its type parameters, so that a flow can be a list.
type foreign struct {
	prepare func(tx *Tx, key Key, foreignKey string) (string, Outcome, error)
	do      func(ctx context.Context, sent Sent[string]) (any, error)
	find    func(ctx context.Context, sent Sent[string]) (any, error)
	record  func(tx *Tx, key Key, form string, out any) (Outcome, error)
}

// typed gives a call its own type of form.
func typed[In ~string](sent Sent[string]) Sent[In] {
	return Sent[In]{
		Key:         sent.Key,
		Form:        In(sent.Form),
		FirstSentAt: sent.FirstSentAt,
		First:       sent.First,
		Ref:         sent.Ref,
		WindowOver:  sent.WindowOver,
	}
}
