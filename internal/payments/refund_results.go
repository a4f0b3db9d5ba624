package payments

import (
	"slices"

	stripe "github.com/stripe/stripe-go/v76"
)

// refundRows are the answers to a refund, besides those that are alike for
// every POST.
func refundRows() []resultRow {
	fresh := func(o *observation) bool { return o.hasObject() && !o.replayed }
	return []resultRow{
		// A saved answer shows the refund as it was then.
		{name: "refund_replayed", then: verdictRead, when: func(o *observation) bool { return o.hasObject() && o.replayed }},
		{name: "refund_mismatch", then: verdictSuspect, reason: parkMismatch, when: func(o *observation) bool { return fresh(o) && !o.ours }},
		{name: "refunded", then: verdictRefunded, when: func(o *observation) bool { return fresh(o) && o.ours && o.allBack() }},
		// It is pending or failed, or it is not all of the payment because
		// somebody refunded a part before. All refunds together decide.
		{name: "refund_unsettled", then: verdictRead, when: func(o *observation) bool { return fresh(o) && o.ours && !o.allBack() }},
		// A refund charges no card.
		{name: "refund_402", then: verdictLookUp, reason: parkUnexpected, when: func(o *observation) bool { return o.refused(402) }},
	}
}

// refusedRefundRows are the answers that call a refund wrong.
func refusedRefundRows() []resultRow {
	refused := func(o *observation) bool { return o.badRequest() && !o.refusesRefund() }
	return []resultRow{
		// Nothing is left to refund, or the charge can't be refunded. What was
		// refunded, by an earlier send or by somebody else, decides.
		{name: "refund_refused", then: verdictRead, when: func(o *observation) bool { return o.badRequest() && o.refusesRefund() }},
		// Stripe had begun, and repeats this to every send under this key.
		{name: "refund_400_saved", then: verdictSuspect, reason: parkRefusedRequest, when: func(o *observation) bool {
			return refused(o) && o.replayed
		}},
		// An earlier send may have refunded, or this one.
		{name: "refund_400_unclear", then: verdictLookUp, reason: parkRefusedRequest, when: func(o *observation) bool {
			return refused(o) && !o.replayed && !o.notBegun()
		}},
		// A mistake of ours, or a balance at Stripe that is too low. Somebody
		// has to look if it stays so.
		{name: "refund_400", then: verdictTransient, counts: true, reason: parkRefusedRequest, when: func(o *observation) bool {
			return refused(o) && o.notBegun()
		}},
	}
}

// refundsRows judge all refunds of a payment.
func refundsRows() []resultRow {
	seen := func(o *observation) bool { return o.hasObject() && !o.refunds.wrong }
	// part means that not all of the payment is back or on its way.
	part := func(o *observation) bool { return seen(o) && !o.allBack() && !o.allGiven() }
	own := func(is func(refundSeen) bool) func(o *observation) bool {
		return func(o *observation) bool {
			r, found := o.refunds.own()
			return part(o) && found && is(r)
		}
	}
	none := func(o *observation) bool {
		_, found := o.refunds.own()
		return part(o) && !found
	}
	refused := func(o *observation) bool { return none(o) && o.stop && !o.settled }
	return []resultRow{
		{name: "refunds_mismatch", then: verdictSuspect, reason: parkMismatch, when: func(o *observation) bool { return o.hasObject() && o.refunds.wrong }},
		{name: "refunds_done", then: verdictRefunded, when: func(o *observation) bool { return seen(o) && o.allBack() }},
		{name: "refunds_open", then: verdictRefundOpen, when: func(o *observation) bool { return seen(o) && !o.allBack() && o.allGiven() && !o.windowOver }},
		// Nobody knows how long the bank will take.
		{name: "refunds_open_over", then: verdictSuspect, reason: parkWindowOver, when: func(o *observation) bool {
			return seen(o) && !o.allBack() && o.allGiven() && o.windowOver
		}},
		{name: "refunds_failed", then: verdictRefundRefused, when: own(refundSeen.failed)},
		// Ours is there, and is not all that was paid: another one has failed
		// since.
		{name: "refunds_part", then: verdictSuspect, reason: parkUnexpected, when: own(func(r refundSeen) bool { return !r.failed() })},
		// Stripe has just named the refund that it doesn't list.
		{name: "refunds_unlisted", then: verdictUnknown, when: func(o *observation) bool { return none(o) && o.settled }},
		{name: "refunds_refused", then: verdictRefundRefused, when: func(o *observation) bool {
			return refused(o) && !o.nothingLeft() && o.alone
		}},
		// All was refunded by others then, some of which has failed since. Stripe
		// repeats its answer to every send under this key.
		{name: "refunds_failed_since", then: verdictRefundRefused, when: func(o *observation) bool {
			return refused(o) && o.nothingLeft() && o.failedSince()
		}},
		// An earlier send may have got through and may show later.
		{name: "refunds_refused_later", then: verdictSuspect, reason: parkRefusedRequest, when: func(o *observation) bool {
			return refused(o) && !o.nothingLeft() && !o.alone
		}},
		// Stripe says that all was refunded, and lists less.
		{name: "refunds_contradict", then: verdictSuspect, reason: parkUnexpected, when: func(o *observation) bool {
			return refused(o) && o.nothingLeft() && !o.failedSince()
		}},
		{name: "refunds_none", then: verdictNothing, when: func(o *observation) bool { return none(o) && !o.settled && !o.stop }},
	}
}

// allBack reports whether succeeded refunds are all that was paid.
func (o *observation) allBack() bool {
	return o.paid > 0 && o.refunds.sum(refundSeen.succeeded) == o.paid
}

// allGiven reports whether all that was paid is back or on its way.
func (o *observation) allGiven() bool {
	return o.paid > 0 && o.refunds.sum(refundSeen.succeeded)+o.refunds.sum(refundSeen.open) == o.paid
}

// refusesRefund reports whether the error says that a charge can't be refunded,
// or was.
func (o *observation) refusesRefund() bool {
	return o.apiError.kind == invalidKind && slices.Contains([]stripe.ErrorCode{
		stripe.ErrorCodeChargeAlreadyRefunded, stripe.ErrorCodeChargeDisputed, stripe.ErrorCodeRefundDisputedPayment, stripe.ErrorCodeChargeNotRefundable,
	}, stripe.ErrorCode(o.apiError.code))
}

// nothingLeft reports whether the refund was refused because all was refunded.
func (o *observation) nothingLeft() bool {
	return o.earlier.code == string(stripe.ErrorCodeChargeAlreadyRefunded)
}

// failedSince reports whether the answer that all was refunded is a saved one,
// and was true before refunds failed that are listed.
func (o *observation) failedSince() bool {
	return o.saved && o.paid > 0 && o.refunds.sum(func(refundSeen) bool { return true }) >= o.paid
}

// disputeRefuses reports whether the refund was refused because of a dispute.
func (o *observation) disputeRefuses() bool {
	return slices.Contains([]stripe.ErrorCode{stripe.ErrorCodeChargeDisputed, stripe.ErrorCodeRefundDisputedPayment},
		stripe.ErrorCode(o.earlier.code))
}
