package payments

import (
	"iter"
	"testing"

	stripe "github.com/stripe/stripe-go/v76"
)

// refundGrid yields all answers to a refund, or to the question for refunds.
func refundGrid(call string) iter.Seq[observation] {
	apiErrors := []apiError{{}}
	for i, e := range gridErrors() {
		if i%3 == 0 {
			apiErrors = append(apiErrors, e)
		}
	}
	apiErrors = append(apiErrors,
		apiError{kind: "invalid_request_error", code: "charge_already_refunded"}, apiError{kind: "invalid_request_error", code: "charge_disputed"},
		apiError{kind: "invalid_request_error", code: "charge_disputed", chargeID: "ch_1"}, apiError{kind: "new_error", code: "charge_disputed"},
		apiError{kind: "invalid_request_error", code: "balance_insufficient"})
	earlier := []apiError{{}, {kind: "invalid_request_error", code: "charge_already_refunded"}, {kind: "invalid_request_error", code: "charge_disputed"}}
	return func(yield func(observation) bool) {
		for o := range gridAnswers(apiErrors, []int{0, 200, 201, 302, 400, 401, 402, 403, 404, 409, 418, 424, 429, 500, 503}) {
			for refunds := range gridRefunds() {
				if !o.hasObject() && len(refunds.all) > 0 {
					continue // then they make no difference
				}
				for known := range 96 {
					o.call, o.refunds, o.paid = call, refunds, 5
					o.ours, o.first, o.settled = known&1 == 0, known&2 == 0, known&4 == 0
					o.windowOver, o.stop, o.earlier = known&8 == 0, known/32 != 0, earlier[known/32]
					o.alone = known&16 == 0
					o.saved = o.alone && o.ours // what ours means for a refund, which has no such knowledge
					if !yield(o) {
						return
					}
				}
			}
		}
	}
}

// gridRefunds yields no refund, and one or two with all statuses and owners.
func gridRefunds() iter.Seq[refundList] {
	statuses := []stripe.RefundStatus{"succeeded", "pending", "failed", "canceled", "new_status"}
	return func(yield func(refundList) bool) {
		if !yield(refundList{}) || !yield(refundList{all: []refundSeen{{"re_1", "succeeded", 9, true}}, wrong: true}) {
			return
		}
		for _, first := range statuses {
			for facts := range 4 {
				one := refundSeen{"re_1", first, 5 - int64(facts&1)*2, facts&2 == 0}
				if !yield(refundList{all: []refundSeen{one}}) {
					return
				}
				for _, second := range statuses {
					if !yield(refundList{all: []refundSeen{one, {"re_2", second, 2, !one.own}}}) {
						return
					}
				}
			}
		}
	}
}

// This states what the tables promise without using them.
func TestRefundIsFinalOnlyByWhatStripeShows(t *testing.T) {
	t.Parallel()
	for _, call := range []string{callRefund, callRefunds} {
		for o := range refundGrid(call) {
			row := rowFor(&o)
			var back int64
			failed, others := false, false
			for _, r := range o.refunds.all {
				if r.status == "succeeded" {
					back += r.amount
				}
				lost := r.status == "failed" || r.status == "canceled"
				failed, others = failed || lost && r.own, others || lost && !r.own
			}
			shown := o.fault == faultNone && o.status == 200 && o.body == bodyObject
			switch {
			case row.then == verdictRefunded && (!shown || back != 5 || o.refunds.wrong || call == callRefund && (o.replayed || !o.ours)):
				t.Fatalf("row %s of %s is done though not all is back: %+v", row.name, call, o)
			case row.then == verdictRefundRefused && (!shown || call == callRefund || o.refunds.wrong || !failed && (!o.stop || !o.alone)):
				t.Fatalf("row %s of %s is final though it may be given back: %+v", row.name, call, o)
			case row.then == verdictRefundRefused && !failed && o.earlier.code == "charge_already_refunded" && (!o.saved || !others):
				t.Fatalf("row %s of %s is final though Stripe says that it was given back: %+v", row.name, call, o)
			case row.then == verdictTransient && (o.fault == faultLost || o.fault == faultNone && (o.status < 400 || o.status >= 500 || o.replayed)):
				t.Fatalf("row %s of %s is transient though it may have been given back: %+v", row.name, call, o)
			case row.then == verdictTransient && o.status == 400 && o.fault == faultNone && !o.first && !o.keyDoubted():
				t.Fatalf("row %s of %s is transient after a send that may have given it back: %+v", row.name, call, o)
			}
		}
	}
}
