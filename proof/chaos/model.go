package main

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model of one key, as its clients may see it: absent → running → done, or
// parked for a person. A hail is two steps: its arrival, which may start the
// key, and its answer. Without an answer, or with a 5xx, there is only the
// arrival, and it may still come later. What a worker does in between is no
// step of its own: the first answer that shows an end is the step to it.

type phase int

const (
	absent phase = iota
	running
	parked
	done
)

// A keyState is what is known of a key at a moment.
type keyState struct {
	phase   phase
	variant variant // which request the key belongs to
	// outcome is 201 once the ride is known to be charged, 402 once it is known
	// to be declined; else 0. A ride is charged before its key is finished.
	outcome int
	ride    string // as a look shows it, once it is charged
	body    string // of the answer, once it was given
}

// A reading is one step of an op: its arrival, or what it saw.
type reading struct {
	*op
	arrival bool
	// beside tells that another hail of the key ran at the same time.
	beside bool
}

// unknown tells that the op may have happened, or not, or may yet.
func (o *op) unknown() bool { return o.Status == 0 || o.Status >= http.StatusInternalServerError }

// steps returns all states in which a step may leave a key. None: what the op
// saw can't be.
func (s keyState) steps(r reading) []keyState {
	switch {
	case r.arrival && s.phase == absent:
		return []keyState{s, {phase: running, variant: r.Variant}}
	case r.arrival:
		return []keyState{s}
	case r.Look:
		return s.look(r)
	case r.Code == "invalid_parameters":
		return only(s, s.phase == absent && r.Variant == invalid)
	case r.Code == "idempotency_key_reused":
		return only(s, s.phase != absent && s.variant != r.Variant)
	case r.Code == "idempotency_key_in_use" && s.phase == absent:
		return only(s, r.beside) // another one is about to make the key, and may fail
	case s.phase == absent || s.variant != r.Variant:
		return nil // an answer about a request that the key doesn't belong to
	}
	return s.answered(r)
}

// answered is the step of a hail with an answer, of the request that the key
// belongs to.
func (s keyState) answered(r reading) []keyState {
	switch {
	case r.Status == http.StatusCreated || r.Status == http.StatusPaymentRequired:
		return s.ends(r)
	case r.Status == http.StatusAccepted:
		return only(s, s.phase == running && r.Async)
	case r.Code == "payment_under_review":
		parking := s
		parking.phase = parked
		return only(parking, (s.phase == running || s.phase == parked) && s.outcome == 0)
	default:
		return only(s, s.phase == running && r.Code == "idempotency_key_in_use")
	}
}

// ends is the step of a hail that was answered for good.
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
		// What is parked stays so: nobody decides during a run.
	}
	return nil
}

// look is the step of a GET.
func (s keyState) look(r reading) []keyState {
	if r.Status != http.StatusOK {
		return nil
	}
	next := s
	switch rideStatus(r.Body) {
	case "": // the key may be there shortly before its ride
		return only(s, s.phase == absent || s.phase == running && s.outcome == 0)
	case "pending":
		return only(s, s.phase == running && s.outcome == 0)
	case "charged":
		next.outcome, next.ride = http.StatusCreated, r.Body
		known := s.outcome == http.StatusCreated && s.ride == r.Body
		return only(next, s.phase == running && s.outcome == 0 || known)
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

func only(s keyState, legal bool) []keyState {
	if !legal {
		return nil
	}
	return []keyState{s}
}

// linearizable tells whether one order of a key's ops explains what all of them
// saw, each at a moment between its call and its return. It is undecided where
// there are too many orders to try in a minute.
func linearizable(ops []*op) porcupine.CheckResult {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{keyState{}} },
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

// operations turns a key's ops into porcupine's. An arrival whose op has no
// clear answer may come at any time after the call; that of an op which began
// when the key was there for sure changes nothing, and is left out to save
// time.
func operations(ops []*op) []porcupine.Operation {
	there := int64(math.MaxInt64) // when some client knew for sure that the key was there
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
		if !o.Look && o.Variant != invalid && o.Call <= there {
			history = append(history, porcupine.Operation{ClientId: o.Client, Input: reading{op: o, arrival: true}, Call: o.Call, Return: last})
		}
		if !o.unknown() {
			r := reading{op: o, beside: besideAnother(ops, i)}
			history = append(history, porcupine.Operation{ClientId: o.Client, Input: r, Call: o.Call, Return: last})
		}
	}
	return history
}

// shows tells that an op proves that its key is there.
func (o *op) shows() bool {
	switch o.Status {
	case http.StatusOK:
		return o.Look && o.Body != ""
	case http.StatusCreated, http.StatusAccepted, http.StatusPaymentRequired:
		return true
	default:
		return slices.Contains([]string{"payment_under_review", "idempotency_key_reused"}, o.Code)
	}
}

// stray is how long after it left a request without an answer may still be on
// its way to a key, or at work for it: longer than any link holds it, and a
// lease more.
const stray = patience + lease

// besideAnother tells that another hail of the key may have run at the same
// time as an op.
func besideAnother(ops []*op, i int) bool {
	return slices.ContainsFunc(ops, func(o *op) bool {
		last := o.Return
		if o.Status == 0 {
			last = max(last, o.Call+int64(stray))
		}
		return o != ops[i] && !o.Look && o.Call <= ops[i].Return && last >= ops[i].Call
	})
}

// rideStatus is the status in a ride's JSON, or "" without a ride.
func rideStatus(ride string) string {
	_, rest, _ := strings.Cut(ride, `"status":"`)
	status, _, _ := strings.Cut(rest, `"`)
	return status
}
