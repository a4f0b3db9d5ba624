package main

import (
	"strings"
	"testing"
)

// asking returns the last round of requests for the ride of whole.
func asking(ops []*op) []*op {
	look := &op{Account: "acct_1", Key: "k", Look: true, answer: answer{Status: 200, Body: strings.TrimSuffix(ops[0].Body, "\n")}}
	reused := &op{Account: "acct_1", Key: "k", Variant: changed, answer: answer{Status: 422, Code: "idempotency_key_reused"}}
	return []*op{look, ops[0], reused}
}

func TestTheLastRound(t *testing.T) {
	t.Parallel()
	unavailable := answer{Status: 503, Code: "unavailable"}
	underReview := answer{Status: 409, Code: "payment_under_review"}
	reason := "stripe_500"
	for name, c := range map[string]struct {
		change func(last []*op, f *facts)
		want   bool
	}{
		"answers as stored":                       {func([]*op, *facts) {}, true},
		"a 503 and nothing else":                  {func(last []*op, _ *facts) { last[1].answer = unavailable }, false},
		"no answer":                               {func(last []*op, _ *facts) { last[1].answer = answer{} }, false},
		"other bytes":                             {func(last []*op, _ *facts) { last[1].Body += " " }, false},
		"stored bytes that changed":               {func(_ []*op, f *facts) { changeRow(f.keys, func(k *keyRow) { k.Body = []byte("{}\n") }) }, false},
		"another status":                          {func(last []*op, _ *facts) { last[1].Status = 402 }, false},
		"other parameters that get the answer":    {func(last []*op, _ *facts) { last[2].answer = last[1].answer }, false},
		"other parameters that get a 503":         {func(last []*op, _ *facts) { last[2].answer = unavailable }, false},
		"no request gets the answer":              {func(last []*op, _ *facts) { last[1].answer = last[2].answer }, false},
		"a look that shows nothing":               {func(last []*op, _ *facts) { last[0].Body = "" }, false},
		"a look that is unavailable":              {func(last []*op, _ *facts) { last[0].answer = unavailable }, false},
		"a key that nobody asked for":             {func(_ []*op, f *facts) { f.keys[rideKey{"acct_1", "k2"}] = keyRow{} }, false},
		"a parked key that gives an answer":       {func(_ []*op, f *facts) { changeRow(f.keys, func(k *keyRow) { k.Parked = &reason }) }, false},
		"a finished key that says it is reviewed": {func(last []*op, _ *facts) { last[1].answer = underReview }, false},
		"a parked key that is under review": {func(last []*op, f *facts) {
			changeRow(f.keys, func(k *keyRow) { k.Parked, k.Status, k.Body = &reason, nil, nil })
			last[0].Body, last[1].answer = `{"status":"under_review"}`, underReview
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ops, f := whole()
			last := asking(ops)
			c.change(last, f)
			if got := askedAgain(last, f); got.ok() != c.want {
				t.Errorf("it passes: %t %q", got.ok(), got.broken)
			}
		})
	}
}

// TestALaterAnswerCounts: of several tries, the last one counts.
func TestALaterAnswerCounts(t *testing.T) {
	t.Parallel()
	ops, f := whole()
	late := *ops[0]
	late.answer = answer{}
	if c := askedAgain(append([]*op{&late}, asking(ops)...), f); !c.ok() {
		t.Errorf("it breaks %q", c.broken)
	}
	if c := askedAgain(append(asking(ops), &late), f); c.ok() {
		t.Error("an earlier answer counts")
	}
}

func TestEachRequestIsMadeAgainOnce(t *testing.T) {
	t.Parallel()
	id := rideKey{"acct_1", "k"}
	ops := []*op{{Look: true}, {Variant: changed}, {}, {Variant: invalid}, {}, {Variant: changed}}
	for _, o := range ops {
		o.Account, o.Key = id.account, id.key
	}
	got := requestsOf(ops)[id]
	if len(got) != 2 || got[0] != ops[1] || got[1] != ops[2] {
		t.Errorf("got %v", got)
	}
}
