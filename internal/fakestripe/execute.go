package fakestripe

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// execute runs the route of a request. It commits in one piece what the route
// changed, the answer that is saved under the key, and the end of the request
// in the ledger. The caller holds the lock.
func (s *Server) execute(c *call) (answer, error) {
	if s.running[c.send.Key] == c {
		delete(s.running, c.send.Key)
	}
	t := s.newTx()
	t.id, t.account = c.id, c.account
	if c.account == otherAccount {
		t.state = newState()
	}
	if c.plan.Kind == Declined402 {
		t.scripted = cmp.Or(c.plan.DeclineCode, "generic_decline")
	}
	t.refundStatus, t.refundThen, t.refundAfter = c.plan.Refund, c.plan.Then, time.Duration(c.plan.After)
	t.refused, t.refusedIntent = c.plan.executedRefusal(), c.plan.Intent
	object, err := t.execute(c.route, c.fields)
	if err != nil && !executed(err) {
		t.change = change{}
	}
	a, err := s.outcome(c, t, object, err)
	if err != nil {
		return answer{}, err
	}
	if c.account == otherAccount {
		a.saved, t.change = false, change{}
	}
	if c.send.Method != http.MethodPost {
		return a, s.end(c, a)
	}
	t.change.Answered = &answered{Seq: c.send.Seq, Status: a.status}
	if c.send.Key != "" && a.saved {
		t.change.Saved = &saved{
			Key: c.send.Key, Path: c.send.Path, Params: c.params(), At: s.now().UnixNano(),
			Status: a.status, Body: a.body, RequestID: c.send.RequestID,
		}
	}
	return a, s.commit(&t.change)
}

// executed reports whether an error is the outcome of an execution. Otherwise
// it is the reason why nothing was executed.
func executed(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.executed()
}

// outcome returns the answer for what a route returned, as the faults change
// it.
func (s *Server) outcome(c *call, t *tx, object any, err error) (answer, error) {
	if refused, ok := errors.AsType[*apiError](err); ok {
		a := refused.answer()
		if !refused.executed() {
			return a, nil
		}
		a.saved = c.plan.Kind != BadRequest400
		return s.alter(c, t, a)
	}
	if err != nil {
		return answer{}, err
	}
	body, err := json.Marshal(object)
	if err != nil {
		return answer{}, fmt.Errorf("encoding the answer to %s: %w", c.send.Path, err)
	}
	return s.alter(c, t, answer{status: http.StatusOK, body: body, saved: true})
}

// alter changes an answer, and what was executed, as the fault says.
func (s *Server) alter(c *call, t *tx, a answer) (answer, error) {
	switch c.plan.Kind {
	case Saved500WithEffect:
		return saved500(), nil
	case Saved500WithoutEffect:
		t.change = change{}
		if c.plan.RollForwardAfter > 0 {
			t.change.Later = []effect{s.rollForward(c)}
		}
		return saved500(), nil
	case OtherObject:
		body, err := override(a.body, c.plan.Set)
		a.body = body
		return a, err
	default:
		return a, nil
	}
}

// saved500 returns a 500 that is saved under the key.
func saved500() answer {
	a := serverError().answer()
	a.saved = true
	return a
}

// rollForward returns the effect that executes a request later which was
// answered with a 500. It is executed as if it arrived then, so it undoes
// nothing that happens meanwhile.
func (s *Server) rollForward(c *call) effect {
	return effect{
		ID: newID("eff"), Due: s.now().Add(time.Duration(c.plan.RollForwardAfter)).UnixNano(),
		Path: c.send.Path, Form: canonical(c.fields),
	}
}

// override replaces fields of a JSON object.
func override(body []byte, set map[string]any) ([]byte, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	maps.Copy(object, set)
	return json.Marshal(object)
}

// whole returns a duration in whole seconds, rounded up, for Retry-After.
func whole(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
