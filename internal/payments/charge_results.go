package payments

import "slices"

// wireRows are the sends of a charge or a refund without an answer from Stripe.
func wireRows() []resultRow {
	saved := func(o *observation) bool { return o.unreadable() && o.replayed && o.body == bodyForeign }
	return []resultRow{
		// No look-up helps, because that would look for what the form names.
		{name: "form_changed", then: verdictSuspect, reason: parkForm, when: faulty(faultForm)},
		{name: "paused", then: verdictTransient, when: faulty(faultPaused)},
		{name: "unsent", then: verdictTransient, when: faulty(faultUnsent)},
		// The connection was lost, reset or cut, or timed out. The charge may
		// exist; another send under the same key finds out.
		{name: "lost", then: verdictUnknown, when: faulty(faultLost)},
		// It was done, and every further send gets the same answer. What is no
		// object at all was spoilt on its way, and the next send shows what is
		// saved.
		{name: "unreadable_saved", then: verdictLookUp, reason: parkUnexpected, when: saved},
		// HTML, a broken or foreign body, a 200 with {}, a redirect, whatever
		// the status.
		{name: "unreadable", then: verdictUnknown, when: func(o *observation) bool { return o.unreadable() && !saved(o) }},
	}
}

// faulty returns the condition of one fault.
func faulty(f fault) func(o *observation) bool {
	return func(o *observation) bool { return o.fault == f }
}

// createdRows are the answers 200 to a charge, with a payment intent.
func createdRows() []resultRow {
	fresh := func(o *observation) bool { return o.hasObject() && !o.replayed }
	return []resultRow{
		// A saved answer shows the intent as it was then, even if it was
		// refunded, disputed or canceled since.
		{name: "replayed", then: verdictRead, when: func(o *observation) bool { return o.hasObject() && o.replayed }},
		{name: "mismatch", then: verdictSuspect, reason: parkMismatch, when: func(o *observation) bool { return fresh(o) && o.state() == stateMismatch }},
		{name: "charged", then: verdictCharged, when: func(o *observation) bool { return fresh(o) && o.state() == statePaid }},
		{name: "processing", then: verdictProcessing, when: func(o *observation) bool { return fresh(o) && o.state() == stateProcessing }},
		// An off-session charge that needs the rider is answered with 402, so
		// this request can't have any other state.
		{name: "unexpected", then: verdictSuspect, reason: parkUnexpected, when: func(o *observation) bool {
			return fresh(o) && !slices.Contains([]intentState{stateMismatch, statePaid, stateProcessing}, o.state())
		}},
	}
}

// declineRows are the answers 402 to a charge.
func declineRows() []resultRow {
	// Without an intent in it, a 402 speaks for this send only.
	plain := func(o *observation) bool {
		return o.apiError.kind == cardKind && !o.replayed &&
			(o.intent.id == "" && o.first || o.ours && o.intent.status == "requires_payment_method")
	}
	return []resultRow{
		{name: "declined", then: verdictDeclined, when: func(o *observation) bool { return o.refused(402) && plain(o) }},
		// A replay, or about another state or another ride: the intent as it is
		// now decides.
		{name: "declined_read", then: verdictRead, when: func(o *observation) bool {
			return o.refused(402) && !plain(o) && o.intent.id != ""
		}},
		{name: "declined_unclear", then: verdictLookUp, reason: parkUnexpected, when: func(o *observation) bool {
			return o.refused(402) && !plain(o) && o.intent.id == ""
		}},
	}
}

// refusalRows are the other answers 4xx that end no charge and no refund.
func refusalRows() []resultRow {
	return []resultRow{
		{name: "key_refused", then: verdictTransient, when: func(o *observation) bool {
			return o.keyDoubted() && !o.denied() && !o.badRequest()
		}},
		{name: "denied", then: verdictTransient, counts: true, reason: parkDenied, when: (*observation).denied},
		// An earlier send used the key with other parameters, and may have
		// charged.
		{name: "idempotency_error", then: verdictLookUp, reason: parkIdempotencyError, when: func(o *observation) bool {
			return o.refused(400, 404) && o.apiError.kind == idempotencyKind
		}},
		{name: "other_4xx", then: verdictLookUp, reason: parkUnexpected, when: func(o *observation) bool {
			return o.refusedBelow500() && !o.keyDoubted() && !o.refused(400, 402, 404, 409, 424, 429)
		}},
	}
}

// badRequestRows are the answers to a charge that call this one request wrong.
func badRequestRows() []resultRow {
	byCard := func(o *observation) bool { return slices.Contains(cardCodes(), o.apiError.code) }
	return []resultRow{
		// Stripe made an intent before it refused. It is read and canceled.
		{name: "bad_request_intent", then: verdictRead, when: func(o *observation) bool {
			return o.badRequest() && o.intent.id != ""
		}},
		// Stripe had begun, and repeats this to every send under this key.
		{name: "bad_request_saved", then: verdictSuspect, reason: parkRefusedRequest, when: func(o *observation) bool {
			return o.badRequest() && o.intent.id == "" && o.replayed
		}},
		// An earlier send may have charged, or this one.
		{name: "bad_request_unclear", then: verdictLookUp, reason: parkRefusedRequest, when: func(o *observation) bool {
			return o.badRequest() && o.intent.id == "" && !o.replayed && !o.notBegun()
		}},
		{name: "bad_card", then: verdictDeclined, when: func(o *observation) bool { return o.notBegun() && byCard(o) }},
		{name: "bad_request", then: verdictAskPayer, when: func(o *observation) bool {
			return o.notBegun() && !byCard(o) && o.payer == payerUnasked
		}},
		{name: "payer_gone", then: verdictDeclined, when: func(o *observation) bool {
			return o.notBegun() && !byCard(o) && o.payer == payerGone
		}},
		// A mistake of ours, which a decline would hide.
		{name: "bad_request_again", then: verdictTransient, counts: true, reason: parkRefusedRequest, when: func(o *observation) bool {
			return o.notBegun() && !byCard(o) && (o.payer == payerThere || o.payer == payerUnclear)
		}},
	}
}

// cardCodes are the codes of a 400 that the rider can mend with another card.
func cardCodes() []string {
	return []string{
		"card_decline_rate_limit_exceeded", "card_declined", "expired_card", "incorrect_cvc", "incorrect_number",
		"incorrect_zip", "invalid_card_type", "invalid_cvc", "invalid_expiry_month", "invalid_expiry_year",
		"invalid_number", "payment_method_customer_decline", "payment_method_provider_decline",
	}
}

// busyRows are the answers to a charge or a refund that ask for a retry, and
// Stripe's own failures.
func busyRows() []resultRow {
	limited := func(o *observation) bool { return o.refused(429) && !o.inUse() && !o.begun() }
	return []resultRow{
		// Another send under this key is running right now.
		{name: "in_use", then: verdictUnknown, backoff: inUseBackoff, when: (*observation).inUse},
		{name: "conflict", then: verdictUnknown, when: func(o *observation) bool {
			return o.refused(409, 424, 429) && !o.inUse() && !limited(o)
		}},
		// Stripe's rate limiter comes before its idempotency layer, so nothing
		// was done.
		{name: "limited", then: verdictTransient, backoff: askedBackoff, when: limited},
		// Stripe has saved that it doesn't know, and repeats that for as long
		// as it keeps the key. The outcome may still change.
		{name: "saved_500", then: verdictLookUp, reason: ParkSaved500, patient: true, when: (*observation).saved500},
		{name: "server_error", then: verdictUnknown, backoff: askedBackoff, when: func(o *observation) bool {
			return o.hasError() && o.status >= 500 && !o.saved500()
		}},
	}
}

// lookRows are the reads and lists that failed, or were refused.
func lookRows() []resultRow {
	// An intent that is gone will not come back for another look-up.
	return append(failedRows(), resultRow{name: "look_refused", then: verdictSuspect, reason: parkUnexpected, when: (*observation).lookRefused})
}

// failedRows are the reads, lists and cancels that failed. None is transient: the
// card may have been charged, and a look-up that fails doesn't change that.
func failedRows() []resultRow {
	limited := func(o *observation) bool { return o.refused(429) }
	return []resultRow{
		{name: "look_limited", then: verdictUnknown, backoff: askedBackoff, when: limited},
		{name: "look_denied", then: verdictUnknown, counts: true, reason: parkDenied, when: (*observation).denied},
		{name: "look_failed", then: verdictUnknown, when: func(o *observation) bool {
			return !o.hasObject() && !limited(o) && !o.badRequest() && !o.denied()
		}},
	}
}

// lookRefused reports whether Stripe calls a look-up, or a cancel, wrong.
func (o *observation) lookRefused() bool { return o.badRequest() && !o.noCustomer() }

// readRows judge a payment intent as it is now, with its latest charge.
func readRows() []resultRow {
	is := func(state intentState, more func(o *observation) bool) func(o *observation) bool {
		return func(o *observation) bool { return o.hasObject() && !o.stoppable() && o.state() == state && more(o) }
	}
	canceled := func(o *observation) bool { return o.intent.status == "canceled" }
	always := func(*observation) bool { return true }
	settled := func(o *observation) bool { return o.settled }
	final := func(o *observation) bool { return !o.settled && o.windowOver }
	open := func(o *observation) bool { return !o.settled && !o.windowOver }
	return []resultRow{
		{name: "read_mismatch", then: verdictSuspect, reason: parkMismatch, when: is(stateMismatch, always)},
		{name: "read_charged", then: verdictCharged, when: is(statePaid, always)},
		{name: "read_refunded", then: verdictSuspect, reason: parkRefunded, when: is(stateRefunded, always)},
		{name: "read_processing", then: verdictProcessing, when: is(stateProcessing, func(o *observation) bool { return !o.windowOver })},
		// Nobody knows how long Stripe will take.
		{name: "read_processing_over", then: verdictSuspect, reason: parkWindowOver, when: is(stateProcessing, func(o *observation) bool {
			return o.windowOver
		})},
		// Stripe has answered the only charge there is, and no send confirms
		// the intent again.
		{name: "read_declined", then: verdictDeclined, when: is(stateFailed, settled)},
		// Found after a send whose answer was lost. Inside the window Stripe
		// may still complete it.
		{name: "read_open", then: verdictNothing, when: is(stateFailed, open)},
		{name: "read_last", then: verdictCancel, when: is(stateFailed, final)},
		{name: "read_unconfirmed_open", then: verdictNothing, when: is(stateUnconfirmed, open)},
		{name: "read_unconfirmed", then: verdictSuspect, reason: parkUnexpected, when: is(stateUnconfirmed, func(o *observation) bool { return !open(o) })},
		// Canceled after it failed, most likely by an attempt of ours that died
		// before it could record that.
		{name: "read_canceled", then: verdictDeclined, when: is(stateCanceled, always)},
		// Stripe refused the charge after it had made the intent.
		{name: "read_stop", then: verdictCancel, when: func(o *observation) bool { return o.stoppable() && !canceled(o) }},
		{name: "read_stopped", then: verdictDeclined, when: func(o *observation) bool { return o.stoppable() && canceled(o) && o.alone }},
		{name: "read_stopped_later", then: verdictSuspect, reason: parkRefusedRequest, when: func(o *observation) bool {
			return o.stoppable() && canceled(o) && !o.alone
		}},
		{name: "read_unexpected", then: verdictSuspect, reason: parkUnexpected, when: is(stateOther, always)},
	}
}

// listRows judge the whole lists of the customers' payment intents.
func listRows() []resultRow {
	return []resultRow{
		{name: "list_none", then: verdictNothing, when: func(o *observation) bool { return o.hasObject() && len(o.found) == 0 }},
		// Stripe knows none of the customers.
		{name: "list_no_customer", then: verdictNothing, when: (*observation).noCustomer},
		{name: "list_one", then: verdictRead, when: func(o *observation) bool { return o.hasObject() && len(o.found) == 1 }},
		{name: "list_more", then: verdictSuspect, reason: parkMoreThanOne, when: func(o *observation) bool { return o.hasObject() && len(o.found) > 1 }},
	}
}

// cancelRows judge the canceling of an intent that must not succeed later.
func cancelRows() []resultRow {
	canceled := func(o *observation) bool { return o.ours && o.intent.status == "canceled" && o.intent.received == 0 }
	return []resultRow{
		{name: "canceled", then: verdictDeclined, when: func(o *observation) bool {
			return o.hasObject() && canceled(o) && (!o.stop || o.alone)
		}},
		// It says nothing about what an earlier send may have made.
		{name: "canceled_later", then: verdictSuspect, reason: parkRefusedRequest, when: func(o *observation) bool {
			return o.hasObject() && canceled(o) && o.stop && !o.alone
		}},
		// Its state has changed since it was read. Another attempt of this key has
		// just canceled it, perhaps, and the next look-up shows that.
		{name: "cancel_refused", then: verdictUnknown, counts: true, reason: parkUnexpected, when: (*observation).lookRefused},
		{name: "not_canceled", then: verdictSuspect, reason: parkUnexpected, when: func(o *observation) bool { return o.hasObject() && !canceled(o) }},
	}
}
