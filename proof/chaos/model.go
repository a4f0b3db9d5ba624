package main

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model of one key, of a hail or a cancel, as clients may see it: absent →
// running → done, or parked for a person. A request is two steps: its arrival,
// which may start the key, and its answer. If there is no answer, or a 5xx, the
// arrival is the only step, and it may come later. What a worker does in between
// is not a step: the first answer that shows an end is the step to that end.

type phase int

const (
	absent phase = iota
	running
	parked
	done
)

// A keyState is what clients know of a key at one moment.
type keyState struct {
	phase   phase
	variant variant // the request that the key belongs to
	// outcome is 201 if the ride is known to be charged, 402 if it is known to
	// be declined, the status of the answer to a cancel, else 0. A ride is
	// charged before its key is finished.
	outcome int
	ride    string // as a look shows it when it is charged
	body    string // of the answer, when it has been given
	// unparks is set if an event of Stripe's has let the key go on, at a moment
	// that no client sees.
	unparks bool
}

// A reading is one step of an op: its arrival, or its answer.
type reading struct {
	*op
	arrival bool
	// beside is set if another POST of the key ran at the same time.
	beside bool
}

// rateLimited is the code of a request that was refused before its key was
// looked at.
const rateLimited = "rate_limited"

// unknown reports whether the answer leaves open if the op has had an effect,
// or will have one.
func (a answer) unknown() bool { return a.Status == 0 || a.Status >= http.StatusInternalServerError }

// steps returns all states that a step may lead to. If there is none, the step
// is impossible.
func (s keyState) steps(r reading) []keyState {
	next := s.next(r)
	if s.phase == parked && s.unparks {
		s.phase = running
		next = append(next, s.next(r)...)
	}
	return next
}

// next is steps for a key that no event lets go on meanwhile.
func (s keyState) next(r reading) []keyState {
	switch {
	case r.arrival && s.phase == absent:
		return []keyState{s, {phase: running, variant: r.Variant, unparks: s.unparks}}
	case r.arrival, r.Code == rateLimited:
		return []keyState{s}
	case r.Look:
		return s.look(r)
	case r.Code == "invalid_parameters":
		return only(s, s.phase == absent && r.Variant == invalid)
	case r.Code == "idempotency_key_reused":
		return only(s, s.phase != absent && s.variant != r.Variant)
	case r.Code == "idempotency_key_in_use" && s.phase == absent:
		return only(s, r.beside) // the other one is about to make the key, and may fail
	case r.Code == notCancelable && r.Retryable:
		return only(s, s.phase == absent) // not now, so that no key is left
	case s.phase == absent || s.variant != r.Variant:
		return nil // an answer to a request that the key does not belong to
	}
	return s.answered(r)
}

// answered returns the states after an answer to the request that the key
// belongs to.
func (s keyState) answered(r reading) []keyState {
	switch {
	case r.Cancel == "" && (r.Status == http.StatusCreated || r.Status == http.StatusPaymentRequired),
		r.Cancel != "" && (r.Status == http.StatusOK || r.Code == notCancelable):
		return s.ends(r)
	case r.Status == http.StatusAccepted: // to a cancel: Stripe holds the refund
		return only(s, s.phase == running && (r.Async || r.Cancel != ""))
	case r.Code == "payment_under_review":
		parking := s
		parking.phase = parked
		return only(parking, (s.phase == running || s.phase == parked) && s.outcome == 0)
	default:
		return only(s, s.phase == running && r.Code == "idempotency_key_in_use")
	}
}

// ends returns the states after a final answer.
func (s keyState) ends(r reading) []keyState {
	end := s
	end.phase, end.outcome, end.body = done, r.Status, r.Body
	if r.Status == http.StatusCreated {
		end.ride = strings.TrimSuffix(r.Body, "\n")
	}
	switch s.phase {
	case running:
		return only(end, (s.outcome == 0 || s.outcome == r.Status) && (s.ride == "" || s.ride == end.ride))
	case done:
		return only(end, s.outcome == r.Status && (s.body == "" || s.body == r.Body))
	case absent, parked:
		// A parked key stays parked, unless an event lets it go on: nobody
		// resolves keys during a run.
	}
	return nil
}

// look returns the states after an answer to a GET.
func (s keyState) look(r reading) []keyState {
	if r.Status != http.StatusOK {
		return nil
	}
	next := s
	switch rideStatus(r.Body) {
	case "": // the key exists shortly before its ride
		return only(s, s.phase == absent || s.phase == running && s.outcome == 0)
	case "pending":
		return only(s, s.phase == running && s.outcome == 0)
	case "charged":
		next.outcome, next.ride = http.StatusCreated, r.Body
		known := s.outcome == http.StatusCreated && (s.ride == r.Body || hasRefund(r.Body))
		return only(next, s.phase == running && s.outcome == 0 || known)
	case "canceled":
		// Its hail was charged before; nothing of it but the cancel is new.
		return only(s, s.outcome == http.StatusCreated)
	case "declined":
		next.phase, next.outcome = done, http.StatusPaymentRequired
		return only(next, s.phase == running && s.outcome == 0 || s.outcome == http.StatusPaymentRequired)
	case "under_review":
		next.phase = parked
		return only(next, s.phase == running && s.outcome == 0 || s.phase == parked)
	default:
		return nil
	}
}

// hasRefund reports whether the JSON of a ride shows a refund.
func hasRefund(ride string) bool { return strings.Contains(ride, `"refund":{`) }

// only returns the state if the step is legal, else none.
func only(s keyState, legal bool) []keyState {
	if !legal {
		return nil
	}
	return []keyState{s}
}

// linearizable checks whether an order of a key's ops explains all their
// answers, each op at a moment between its call and its return. unparked is set
// if an event has let the key go on after it was parked. The result is Unknown
// if there are too many orders to try in a minute.
func linearizable(ops []*op, unparked bool) porcupine.CheckResult {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{keyState{unparks: unparked}} },
		Step: func(state, input, _ any) []any {
			s, ok := state.(keyState)
			r, known := input.(reading)
			if !ok || !known {
				return nil
			}
			var next []any
			for _, step := range s.steps(r) {
				next = append(next, step)
			}
			return next
		},
	}
	return porcupine.CheckOperationsTimeout(model.ToModel(), operations(ops), time.Minute)
}

// operations returns the ops of a key as porcupine's operations. The arrival of
// an op without a clear answer may come at any time after the call. An op that
// began when the key certainly existed has an arrival that changes nothing, so
// that step is left out to save time.
func operations(ops []*op) []porcupine.Operation {
	there := int64(math.MaxInt64) // when a client first knew that the key existed
	for _, o := range ops {
		if o.shows() {
			there = min(there, o.Return)
		}
	}
	var history []porcupine.Operation
	for i, o := range ops {
		last := o.Return
		if o.unknown() {
			last = math.MaxInt64
		}
		if !o.Look && o.Variant != invalid && o.Code != rateLimited && o.Call <= there {
			history = append(history, porcupine.Operation{ClientId: o.Client, Input: reading{op: o, arrival: true}, Call: o.Call, Return: last})
		}
		if !o.unknown() {
			r := reading{op: o, beside: overlapsAnother(ops, i)}
			history = append(history, porcupine.Operation{ClientId: o.Client, Input: r, Call: o.Call, Return: last})
		}
	}
	return history
}

// shows reports whether the answer of an op proves that its key exists.
func (o *op) shows() bool {
	switch o.Status {
	case http.StatusOK:
		return o.Body != "" // a look at a key that isn't there is empty
	case http.StatusCreated, http.StatusAccepted, http.StatusPaymentRequired:
		return true
	default:
		return slices.Contains([]string{"payment_under_review", "idempotency_key_reused"}, o.Code) || o.Code == notCancelable && !o.Retryable
	}
}

// stray is how long after its call a request without an answer may still be on
// its way, or be worked on: longer than any link holds it, and a call to Stripe
// more.
const stray = patience + stripeTimeout

// overlapsAnother reports whether another POST of the key may have run at the
// same time as op i.
func overlapsAnother(ops []*op, i int) bool {
	return slices.ContainsFunc(ops, func(o *op) bool {
		last := o.Return
		if o.Status == 0 {
			last = max(last, o.Call+int64(stray))
		}
		return o != ops[i] && !o.Look && o.Call <= ops[i].Return && last >= ops[i].Call
	})
}

// rideStatus returns the status in the JSON of a ride, or "" if there is no
// ride.
func rideStatus(ride string) string {
	_, rest, _ := strings.Cut(ride, `"status":"`)
	status, _, _ := strings.Cut(rest, `"`)
	return status
}
