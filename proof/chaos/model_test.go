package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

const (
	chargedRide = `{"id":"ride_1","status":"charged"}`
	pendingRide = `{"id":"ride_1","status":"pending"}`
)

// at returns an op with the times of its call and its return.
func at(call, back int64, o op) *op {
	o.Call, o.Return = call, back
	return &o
}

func hailed(status int, code string) op {
	o := op{answer: answer{Status: status, Code: code}}
	if status == http.StatusCreated {
		o.Body = chargedRide + "\n"
	}
	if status == http.StatusPaymentRequired {
		o.Body = "declined\n"
	}
	return o
}

// canceled returns a cancel with an answer. One without a code has the status as
// its body.
func canceled(status int, code string, retryable bool) op {
	o := op{Cancel: "ride_1", answer: answer{Status: status, Code: code, Retryable: retryable}}
	if code == "" && status != 0 {
		o.Body = http.StatusText(status)
	}
	return o
}

// TestHistoriesOfCancels: a cancel has a key of its own, with one answer.
func TestHistoriesOfCancels(t *testing.T) {
	t.Parallel()
	done, held, lost := canceled(200, "", false), canceled(202, "", false), canceled(0, "", false)
	never, notNow := canceled(409, notCancelable, false), canceled(409, notCancelable, true)
	inUse, review := canceled(409, "idempotency_key_in_use", true), canceled(409, "payment_under_review", true)
	otherBytes := with(done, func(o *op) { o.Body += " " })
	for name, c := range map[string]struct {
		ops  []*op
		want porcupine.CheckResult
	}{
		"a refund and its replay":           {[]*op{at(1, 2, done), at(3, 4, done)}, porcupine.Ok},
		"a refund that Stripe holds":        {[]*op{at(1, 2, held), at(3, 4, held), at(5, 6, inUse), at(7, 8, done)}, porcupine.Ok},
		"a lost answer that came through":   {[]*op{at(1, 2, lost), at(3, 4, inUse), at(5, 6, done)}, porcupine.Ok},
		"not now, and later":                {[]*op{at(1, 2, notNow), at(3, 4, notNow), at(5, 6, done)}, porcupine.Ok},
		"never, and its replay":             {[]*op{at(1, 2, notNow), at(3, 4, never), at(5, 6, never)}, porcupine.Ok},
		"under review":                      {[]*op{at(1, 2, lost), at(3, 4, review), at(5, 6, review)}, porcupine.Ok},
		"in use beside one that is refused": {[]*op{at(1, 5, notNow), at(2, 3, inUse), at(6, 7, notNow)}, porcupine.Ok},
		"in use after the answer":           {[]*op{at(1, 2, done), at(3, 4, inUse)}, porcupine.Illegal},
		"in use, and nobody asks":           {[]*op{at(1, 2, notNow), at(3, 4, inUse), at(5, 6, notNow)}, porcupine.Illegal},
		"held after the answer":             {[]*op{at(1, 2, done), at(3, 4, held)}, porcupine.Illegal},
		"not now after Stripe holds it":     {[]*op{at(1, 2, held), at(3, 4, notNow)}, porcupine.Illegal},
		"not now after the answer":          {[]*op{at(1, 2, done), at(3, 4, notNow)}, porcupine.Illegal},
		"a refund that is taken back":       {[]*op{at(1, 2, done), at(3, 4, never)}, porcupine.Illegal},
		"other bytes":                       {[]*op{at(1, 2, done), at(3, 4, otherBytes)}, porcupine.Illegal},
		"an answer after the review began":  {[]*op{at(1, 2, review), at(3, 4, done)}, porcupine.Illegal},
		"an answer of a hail's":             {[]*op{at(1, 2, canceled(201, "", false))}, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := linearizable(c.ops, false); got != c.want {
				t.Errorf("it is %s", got)
			}
		})
	}
}

func looked(ride string) op {
	return op{Look: true, answer: answer{Status: http.StatusOK, Body: ride}}
}

func with(o op, change func(*op)) op {
	change(&o)
	return o
}

func TestPossibleHistories(t *testing.T) {
	t.Parallel()
	created, declined := hailed(201, ""), hailed(402, "card_declined")
	inUse, lost := hailed(409, "idempotency_key_in_use"), hailed(0, "")
	for name, ops := range map[string][]*op{
		"a ride and its replay":                             {at(1, 2, created), at(3, 4, created)},
		"a decline and its replay":                          {at(1, 2, declined), at(3, 4, declined)},
		"a lost answer that came through":                   {at(1, 2, lost), at(3, 4, looked(chargedRide))},
		"a lost answer that never came through":             {at(1, 2, lost), at(3, 4, looked(""))},
		"a lost request that arrives after a later look":    {at(1, 2, lost), at(3, 4, looked("")), at(5, 6, looked(pendingRide))},
		"in use, since a completer took over what it began": {at(1, 2, inUse), at(3, 4, created)},
		"in use behind a lost answer":                       {at(1, 2, lost), at(3, 4, inUse), at(5, 6, created)},
		"in use beside another request that made nothing":   {at(1, 5, hailed(503, "unavailable")), at(2, 3, inUse), at(6, 7, looked(""))},
		"a look in the middle of a hail":                    {at(1, 9, created), at(2, 3, looked("")), at(4, 5, looked(pendingRide)), at(6, 7, looked(chargedRide))},
		"a look that sees the charge before the answer":     {at(1, 2, lost), at(3, 4, looked(chargedRide)), at(5, 6, inUse), at(7, 8, created)},
		"a decline that is seen before it is answered":      {at(1, 2, lost), at(3, 4, looked(`{"status":"declined"}`)), at(5, 6, declined)},
		"accepted, and answered later":                      {at(1, 2, with(hailed(202, ""), async)), at(3, 4, created)},
		"accepted twice":                                    {at(1, 2, with(hailed(202, ""), async)), at(3, 4, with(hailed(202, ""), async))},
		"under review, for good":                            {at(1, 2, lost), at(3, 4, hailed(409, "payment_under_review")), at(5, 6, looked(`{"status":"under_review"}`))},
		"other parameters after the right ones":             {at(1, 2, created), at(3, 4, with(hailed(422, "idempotency_key_reused"), other))},
		"other parameters that came first":                  {at(1, 2, with(lost, other)), at(3, 4, hailed(422, "idempotency_key_reused"))},
		"an invalid request, and the key is still good":     {at(1, 2, with(hailed(422, "invalid_parameters"), wrong)), at(3, 4, created)},
		"an invalid request under a used key":               {at(1, 2, created), at(3, 4, with(hailed(422, "idempotency_key_reused"), wrong))},
		"refused for the rate, and the key is still free":   {at(1, 2, hailed(429, "rate_limited")), at(3, 4, with(created, other))},
		"a look that finds nothing of a key without a ride": {at(1, 2, lost), at(3, 4, inUse), at(5, 6, looked("")), at(7, 8, looked(pendingRide))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := linearizable(ops, false); got != porcupine.Ok {
				t.Errorf("it is %s", got)
			}
		})
	}
}

func TestImpossibleHistories(t *testing.T) {
	t.Parallel()
	created, declined := hailed(201, ""), hailed(402, "card_declined")
	inUse, lost := hailed(409, "idempotency_key_in_use"), hailed(0, "")
	otherBytes := with(created, func(o *op) { o.Body = strings.Replace(o.Body, "ride_1", "ride_2", 1) })
	for name, ops := range map[string][]*op{
		"a replay of other bytes":                        {at(1, 2, created), at(3, 4, otherBytes)},
		"a ride that was declined before":                {at(1, 2, declined), at(3, 4, created)},
		"a decline of a ride that was charged":           {at(1, 2, lost), at(3, 4, looked(chargedRide)), at(5, 6, declined)},
		"in use after the answer":                        {at(1, 2, created), at(3, 4, inUse)},
		"a ride that is gone":                            {at(1, 2, created), at(3, 4, looked(""))},
		"a ride that is pending again":                   {at(1, 2, lost), at(3, 4, looked(chargedRide)), at(5, 6, looked(pendingRide))},
		"a look that sees a ride before anybody asked":   {at(1, 2, looked(pendingRide)), at(3, 4, created)},
		"a ride that a look shows otherwise":             {at(1, 2, created), at(3, 4, looked(`{"id":"ride_2","status":"charged"}`))},
		"accepted after the answer":                      {at(1, 2, created), at(3, 4, with(hailed(202, ""), async))},
		"accepted without Prefer: respond-async":         {at(1, 2, hailed(202, ""))},
		"accepted, and then gone":                        {at(1, 2, with(hailed(202, ""), async)), at(3, 4, with(hailed(422, "invalid_parameters"), wrong))},
		"an answer after the review began":               {at(1, 2, hailed(409, "payment_under_review")), at(3, 4, created)},
		"a review after the answer":                      {at(1, 2, created), at(3, 4, hailed(409, "payment_under_review"))},
		"other parameters that are carried out":          {at(1, 2, created), at(3, 4, with(created, other))},
		"the right parameters that are refused":          {at(1, 2, created), at(3, 4, hailed(422, "idempotency_key_reused"))},
		"refused as reused before it was used":           {at(1, 2, hailed(422, "idempotency_key_reused"))},
		"an invalid request that is carried out":         {at(1, 2, with(created, wrong))},
		"an invalid request that consumes the key":       {at(1, 2, with(hailed(422, "invalid_parameters"), wrong)), at(3, 4, hailed(422, "idempotency_key_reused"))},
		"refused for the rate, and the key is used":      {at(1, 2, hailed(429, "rate_limited")), at(3, 4, with(hailed(422, "idempotency_key_reused"), other))},
		"a refusal that isn't in the contract":           {at(1, 2, hailed(418, ""))},
		"a replay that comes after a crash as new bytes": {at(1, 2, created), at(3, 4, lost), at(5, 6, otherBytes)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := linearizable(ops, false); got != porcupine.Illegal {
				t.Errorf("it is %s", got)
			}
		})
	}
}

// TestAnEventLetsAParkedKeyGoOn: what is under review may be charged later, but
// only of a key that an event has let go on.
func TestAnEventLetsAParkedKeyGoOn(t *testing.T) {
	t.Parallel()
	review := hailed(409, "payment_under_review")
	ops := []*op{
		at(1, 2, hailed(0, "")), at(3, 4, review), at(5, 6, looked(pendingRide)), at(7, 8, looked(`{"status":"under_review"}`)),
		at(9, 10, hailed(409, "idempotency_key_in_use")), at(11, 12, hailed(201, "")),
	}
	for unparked, want := range map[bool]porcupine.CheckResult{true: porcupine.Ok, false: porcupine.Illegal} {
		if got := linearizable(ops, unparked); got != want {
			t.Errorf("it is %s if an event unparked it: %t", got, unparked)
		}
	}
	if got := linearizable(append(ops, at(13, 14, review)), true); got != porcupine.Illegal {
		t.Errorf("a review after the answer is %s", got)
	}
}

func async(o *op) { o.Async = true }

func other(o *op) { o.Variant = changed }

func wrong(o *op) { o.Variant = invalid }
