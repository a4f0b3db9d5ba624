package payments

import (
	"fmt"
	"iter"
	"slices"
	"testing"
)

// The grids are all combinations of what the tables look at. They hold far more
// than Stripe ever answers.

func TestExactlyOneRowMatchesEveryObservation(t *testing.T) {
	t.Parallel()
	grids := map[string]iter.Seq[observation]{
		callCharge: sendGrid(), callRead: readGrid(callRead), callList: listGrid(), callCancel: readGrid(callCancel),
		callCustomer: payerGrid(callCustomer), callMethod: payerGrid(callMethod), callAccount: payerGrid(callAccount), callEvent: payerGrid(callEvent),
		callRefund: refundGrid(callRefund), callRefunds: refundGrid(callRefunds), callDisputes: payerGrid(callDisputes),
	}
	for call, table := range resultTables {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			matched := map[string]bool{}
			for o := range grids[call] {
				name, err := onlyRow(&o)
				if err != nil {
					t.Fatalf("%v for %+v", err, o)
				}
				matched[name] = true
			}
			for _, row := range table {
				if !matched[row.name] {
					t.Errorf("nothing in the grid matches row %s", row.name)
				}
			}
		})
	}
}

// This states what the table promises without using the table.
func TestUnknownResultIsNeverFinal(t *testing.T) {
	t.Parallel()
	for o := range sendGrid() {
		row := rowFor(&o)
		final := row.then == verdictCharged || row.then == verdictDeclined
		switch {
		case final && o.fault != faultNone:
			t.Fatalf("row %s is final without an answer: %+v", row.name, o)
		case final && o.replayed:
			t.Fatalf("row %s is final by a replay: %+v", row.name, o)
		case final && !slices.Contains([]int{200, 400, 402, 404}, o.status):
			t.Fatalf("row %s is final by status %d: %+v", row.name, o.status, o)
		case row.then == verdictCharged && o.intent.contradictsItself():
			t.Fatalf("row %s is charged by a charge that wasn't paid: %+v", row.name, o)
		case row.then == verdictDeclined && (o.status != 402 || o.intent.id == "") && !o.first:
			t.Fatalf("row %s is final after a send that may have charged: %+v", row.name, o)
		case row.then == verdictDeclined && o.status != 402 && (o.intent.id != "" || o.apiError.chargeID != "" || o.apiError.kind != "invalid_request_error"):
			t.Fatalf("row %s is final though Stripe had begun: %+v", row.name, o)
		case row.then == verdictCharged && (!o.ours || o.intent.received != o.intent.amount || o.intent.chargeID == ""):
			t.Fatalf("row %s is charged without a charge of ours: %+v", row.name, o)
		case row.then == verdictTransient && o.fault == faultNone && (o.intent.id != "" || o.apiError.chargeID != "" || o.replayed):
			t.Fatalf("row %s is transient though Stripe had begun: %+v", row.name, o)
		case row.then == verdictTransient && (o.fault == faultLost || o.fault == faultNone && (o.status < 400 || o.status >= 500)):
			t.Fatalf("row %s is transient though the card may have been charged: %+v", row.name, o)
		}
	}
}

// A look-up that shows nothing must neither end a charge nor let it be sent as
// if nothing had been sent before.
func TestFailedLookUpIsNeverFinal(t *testing.T) {
	t.Parallel()
	for call, grid := range map[string]iter.Seq[observation]{
		callRead: readGrid(callRead), callList: listGrid(), callCancel: readGrid(callCancel), callRefunds: refundGrid(callRefunds),
	} {
		for o := range grid {
			row := rowFor(&o)
			if shown := o.fault == faultNone && o.status == 200 && o.body == bodyObject || o.noCustomer(); !shown && row.then != verdictUnknown && row.then != verdictSuspect {
				t.Fatalf("row %s of %s draws a conclusion from nothing: %+v", row.name, call, o)
			}
			if row.then == verdictTransient || row.then == verdictLookUp {
				t.Fatalf("row %s of %s would let the engine send: %+v", row.name, call, o)
			}
		}
	}
}

func TestObservationWithoutARowIsUnknown(t *testing.T) {
	t.Parallel()
	wantEqual(t, "verdict", verdictUnknown, rowFor(&observation{}).then)
}

// onlyRow returns the one row that matches o.
func onlyRow(o *observation) (string, error) {
	var names []string
	for _, row := range resultTables[o.call] {
		if row.when(o) {
			names = append(names, row.name)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the rows %v match", names)
	}
	return names[0], nil
}

func gridFaults() []fault {
	return []fault{faultNone, faultForm, faultPaused, faultUnsent, faultLost}
}

func gridErrors() []apiError {
	var all []apiError
	all = append(all, apiError{kind: "invalid_request_error", code: "resource_missing", param: "customer"})
	codes := append([]string{
		"", "card_declined", "expired_card", "authentication_required", "resource_missing", "livemode_mismatch",
		"idempotency_key_in_use", "lock_timeout", "rate_limit",
	}, keyCodes()[:1]...)
	for _, kind := range []string{"", "card_error", "idempotency_error", "invalid_request_error", "new_error"} {
		for _, code := range codes {
			all = append(all, apiError{kind: kind, code: code})
		}
		all = append(all, apiError{kind: kind, code: "charge_named", chargeID: "ch_1"})
	}
	return all
}

func gridStatuses() []int {
	return []int{
		0, 100, 101, 199, 200, 201, 202, 204, 299, 300, 301, 302, 304, 307, 308, 399,
		400, 401, 402, 403, 404, 405, 408, 409, 410, 418, 422, 424, 425, 428, 429, 431, 451, 499,
		500, 501, 502, 503, 504, 520, 599, 600, 999,
	}
}

// gridKeys yields what may be known of the API key after an answer.
func gridKeys(o *observation) iter.Seq[keyState] {
	if o.keyDoubted() {
		return slices.Values([]keyState{keyUnasked, keyAccepted, keyRefused, keyUnclear})
	}
	return slices.Values([]keyState{keyUnasked})
}

// gridAnswers yields all answers and all faults, without payment intents.
func gridAnswers(apiErrors []apiError, statuses []int) iter.Seq[observation] {
	return func(yield func(observation) bool) {
		for _, fault := range gridFaults() {
			for i, status := range statuses {
				if i%10 != 0 && fault != faultNone {
					continue // a few statuses are enough if there is no answer
				}
				for _, body := range []answerBody{bodyOther, bodyForeign, bodyObject, bodyError} {
					for i, apiErr := range apiErrors {
						if i%9 != 0 && (body != bodyError || fault != faultNone) {
							continue // a few errors are enough if they make no difference
						}
						for _, replayed := range []bool{false, true} {
							o := observation{fault: fault, status: status, body: body, apiError: apiErr, replayed: replayed}
							for key := range gridKeys(&o) {
								o.key, o.refusedAgain = key, key == keyRefused && i%2 == 0
								if !yield(o) {
									return
								}
							}
						}
					}
				}
			}
		}
	}
}

func sendGrid() iter.Seq[observation] {
	intents := []observation{
		{},
		{intent: paymentIntent{id: "pi_1", status: "succeeded", amount: 5, received: 5, chargeID: "ch_1"}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "succeeded", amount: 5, received: 4, chargeID: "ch_1"}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "succeeded", amount: 5, received: 5, chargeID: "ch_1", expanded: true}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "succeeded", amount: 5, received: 5, chargeID: "ch_1", expanded: true, chargePaid: true}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "requires_payment_method", amount: 5}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "processing", amount: 5}, ours: true},
		{intent: paymentIntent{id: "pi_1", status: "requires_action", amount: 5}, ours: true},
		{intent: paymentIntent{id: "pi_2", status: "succeeded", amount: 5, received: 5, chargeID: "ch_2"}},
	}
	return func(yield func(observation) bool) {
		for o := range gridAnswers(gridErrors(), gridStatuses()) {
			for _, with := range intents {
				for known := range 8 {
					o.call, o.intent, o.ours = callCharge, with.intent, with.ours
					o.first, o.payer = known&1 != 0, payerState(known/2)
					if !yield(o) {
						return
					}
				}
			}
		}
	}
}

func readGrid(call string) iter.Seq[observation] {
	apiErrors := []apiError{
		{},
		{kind: "invalid_request_error"},
		{kind: "idempotency_error"},
		{kind: "invalid_request_error", code: "livemode_mismatch"},
		{kind: "invalid_request_error", code: "lock_timeout"},
		{kind: "invalid_request_error", code: keyCodes()[0]},
	}
	return func(yield func(observation) bool) {
		for o := range gridAnswers(apiErrors, []int{0, 200, 201, 302, 400, 401, 402, 404, 409, 418, 429, 500, 503}) {
			for intent := range gridIntents() {
				if intent.id != "" && intent.status != "succeeded" && (o.status != 200 || o.body != bodyObject || o.fault != faultNone) {
					continue // a few intents are enough if they make no difference; all combinations take a minute
				}
				for known := range 32 {
					o.call, o.intent = call, intent
					o.ours, o.settled, o.windowOver = known&1 == 0, known&2 == 0, known&4 == 0
					o.stop, o.alone = known&8 != 0, known&16 != 0
					if !yield(o) {
						return
					}
				}
			}
		}
	}
}

func gridIntents() iter.Seq[paymentIntent] {
	statuses := []string{
		"", "succeeded", "processing", "requires_payment_method", "requires_confirmation", "requires_action",
		"requires_capture", "canceled", "new_status",
	}
	return func(yield func(paymentIntent) bool) {
		if !yield(paymentIntent{}) {
			return
		}
		for _, status := range statuses {
			for facts := range 64 {
				intent := paymentIntent{
					id: "pi_1", status: status, amount: 5, received: 5, chargeID: "ch_1",
					chargePaid: facts&1 == 0, refunded: facts&2 == 0, disputed: facts&4 == 0,
				}
				if facts&8 == 0 {
					intent.received = 0
				}
				if facts&16 == 0 {
					intent.chargeID = ""
				}
				if facts&32 == 0 {
					intent.failure.code = "card_declined"
				}
				if !yield(intent) {
					return
				}
			}
		}
	}
}

func payerGrid(call string) iter.Seq[observation] {
	return func(yield func(observation) bool) {
		for o := range gridAnswers(gridErrors(), gridStatuses()) {
			for _, gone := range []bool{false, true} {
				o.call, o.gone = call, gone
				if !yield(o) {
					return
				}
			}
		}
	}
}

func listGrid() iter.Seq[observation] {
	return func(yield func(observation) bool) {
		for o := range gridAnswers(gridErrors(), gridStatuses()) {
			for _, found := range [][]string{nil, {"pi_1"}, {"pi_1", "pi_2"}, {"pi_1", "pi_2", "pi_3"}} {
				o.call, o.found = callList, found
				if !yield(o) {
					return
				}
			}
		}
	}
}
