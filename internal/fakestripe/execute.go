package fakestripe

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// maxKey is the length of the longest idempotency key, in bytes.
const maxKey = 255

// params returns a hash that is equal for equal parameters.
func (c *call) params() string {
	hash := sha256.Sum256([]byte(canonical(c.fields)))
	return hex.EncodeToString(hash[:16])
}

// recall returns what the request's key has to say, if anything: the saved
// answer, that it was saved for something else, or that it is in use. The
// caller holds the lock.
func (s *Server) recall(c *call) (answer, bool) {
	if s.running[c.send.Key] != nil {
		return keyInUse(c.send.Key).answer(), true
	}
	first := s.state.saved[c.send.Key]
	switch {
	case first == nil:
		return answer{}, false
	case first.Path != c.send.Path || first.Params != c.params():
		return keyReused(c.send.Key, first.Path, c.send.Path).answer(), true
	default:
		return answer{
			status: first.Status, body: first.Body, replayed: true, original: first.RequestID,
			retry: retryOf(first.Status),
		}, true
	}
}

// retryOf returns the Stripe-Should-Retry header of a saved answer.
func retryOf(status int) string {
	if status == http.StatusPaymentRequired {
		return "false"
	}
	return ""
}

// execute runs a request's route and commits, in one piece, what it changed,
// what it answers under its key, and that it was answered. The caller holds the
// lock.
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

// executed tells whether an error is the outcome of an execution rather than
// the reason why there was none.
func executed(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.executed()
}

// outcome returns the answer to what a route returned, as the faults bend it.
func (s *Server) outcome(c *call, t *tx, object any, err error) (answer, error) {
	if refused, ok := errors.AsType[*apiError](err); ok {
		a := refused.answer()
		if !refused.executed() {
			return a, nil
		}
		a.saved = c.plan.Kind != BadRequest400
		return s.bend(c, t, a)
	}
	if err != nil {
		return answer{}, err
	}
	body, err := json.Marshal(object)
	if err != nil {
		return answer{}, fmt.Errorf("encoding the answer to %s: %w", c.send.Path, err)
	}
	return s.bend(c, t, answer{status: http.StatusOK, body: body, saved: true})
}

// bend replaces what was executed or answered by what a fault wants.
func (s *Server) bend(c *call, t *tx, a answer) (answer, error) {
	switch c.plan.Kind {
	case Saved500WithEffect:
		return saved500(), nil
	case Saved500WithoutEffect:
		t.change = change{}
		if c.plan.RollForwardAfter > 0 {
			t.change.Later = []event{s.rollForward(c)}
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

func saved500() answer {
	a := serverError().answer()
	a.saved = true
	return a
}

// rollForward returns the later effect of a request that was answered with a
// 500. It runs then as if it came then, so it cannot undo what happens meanwhile.
func (s *Server) rollForward(c *call) event {
	return event{
		ID: newID("evt"), Due: s.now().Add(c.plan.RollForwardAfter).UnixNano(),
		Path: c.send.Path, Form: canonical(c.fields),
	}
}

// override sets fields of a JSON object.
func override(body []byte, set map[string]any) ([]byte, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	maps.Copy(object, set)
	return json.Marshal(object)
}

// whole returns a duration in whole seconds, rounded up, as Retry-After wants
// it.
func whole(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
