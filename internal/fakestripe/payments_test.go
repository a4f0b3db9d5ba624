package fakestripe

import (
	"strings"
	"testing"
	"time"
)

func TestACreateWithConfirmCharges(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	r := f.post(t, intents, "k1", hail("r1", "expand[]", "latest_charge"))
	r.want(t, 200, "object", "payment_intent", "amount", "2350", "amount_received", "2350", "currency", "usd",
		"customer", "cus_visa", "status", "succeeded", "description", "A ride", "livemode", "false",
		"metadata.ride_id", "r1", "last_payment_error", "<nil>", "next_action", "<nil>", "automatic_payment_methods", "<nil>",
		"payment_method_types.0", "card", "confirmation_method", "automatic",
		"latest_charge.object", "charge", "latest_charge.status", "succeeded", "latest_charge.paid", "true",
		"latest_charge.captured", "true", "latest_charge.refunded", "false", "latest_charge.disputed", "false",
		"latest_charge.amount_refunded", "0", "latest_charge.metadata.ride_id", "r1", "latest_charge.customer", "cus_visa",
		"latest_charge.outcome.type", "authorized", "latest_charge.payment_method_details.card.last4", "4242")
	if token := r.get("payment_method"); token == "pm_card_visa" || !strings.HasPrefix(token, "pm_") {
		t.Errorf("payment_method is %q; each use of a test token is a payment method of its own", token)
	}
	id, charge := r.get("id"), r.get("latest_charge.id")
	f.read(t, intents+"/"+id).want(t, 200, "id", id, "latest_charge", charge)
	f.read(t, intents+"/"+id+"?expand[]=latest_charge&expand[]=customer&expand[]=payment_method").want(t, 200,
		"latest_charge.id", charge, "customer.id", "cus_visa", "payment_method.card.brand", "visa")
	f.read(t, "/v1/charges/"+charge+"?expand[]=payment_intent&expand[]=customer").want(t, 200, "id", charge,
		"payment_intent.id", id, "customer.id", "cus_visa")
	f.wantCharges(t, "r1", 1)
}

func TestEachTestCardDoesWhatItsNameSays(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ card, offSession, code, declineCode string }{
		{"pm_card_visa", "true", "", ""},
		{"pm_card_mastercard", "true", "", ""},
		{"pm_card_chargeDeclined", "true", "card_declined", "generic_decline"},
		{"pm_card_visa_chargeDeclined", "true", "card_declined", "generic_decline"},
		{"pm_card_chargeCustomerFail", "true", "card_declined", "generic_decline"},
		{"pm_card_visa_chargeCustomerFail", "true", "card_declined", "generic_decline"},
		{"pm_card_chargeDeclinedInsufficientFunds", "true", "card_declined", "insufficient_funds"},
		{"pm_card_visa_chargeDeclinedInsufficientFunds", "true", "card_declined", "insufficient_funds"},
		{"pm_card_visa_chargeDeclinedLostCard", "true", "card_declined", "lost_card"},
		{"pm_card_visa_chargeDeclinedStolenCard", "true", "card_declined", "stolen_card"},
		{"pm_card_chargeDeclinedExpiredCard", "true", "expired_card", "expired_card"},
		{"pm_card_chargeDeclinedIncorrectCvc", "true", "incorrect_cvc", "incorrect_cvc"},
		{"pm_card_chargeDeclinedProcessingError", "true", "processing_error", "processing_error"},
		{"pm_card_authenticationRequired", "true", "authentication_required", "authentication_required"},
		{"pm_fake_tryAgainLater", "true", "card_declined", "try_again_later"},
	} {
		t.Run(test.card+" gives "+test.declineCode+".", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			r := f.post(t, intents, "k1", hail("r", "payment_method", test.card))
			if test.code == "" {
				r.want(t, 200, "status", "succeeded")
				return
			}
			r.want(t, 402, "error.type", "card_error", "error.code", test.code, "error.decline_code", test.declineCode,
				"error.payment_intent.status", "requires_payment_method", "error.payment_intent.payment_method", "<nil>",
				"error.payment_intent.last_payment_error.decline_code", test.declineCode,
				"error.payment_intent.latest_charge", r.get("error.charge"), "error.payment_method.object", "payment_method")
			f.read(t, "/v1/charges/"+r.get("error.charge")).want(t, 200, "status", "failed", "paid", "false",
				"failure_code", test.code, "outcome.type", "issuer_declined", "payment_intent", r.get("error.payment_intent.id"))
			f.wantCharges(t, "r", 0)
		})
	}
}

func TestADeclinedPaymentIntentCanBeConfirmedAgain(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	id := f.post(t, intents, "", hail("r", "payment_method", "pm_card_chargeCustomerFail")).get("error.payment_intent.id")
	f.post(t, intents+"/"+id+"/confirm", "", "").want(t, 400, "error.param", "payment_method", "error.code", "parameter_missing")
	f.post(t, intents+"/"+id+"/confirm", "", "payment_method=pm_card_visa").want(t, 200, "status", "succeeded", "last_payment_error", "<nil>")
	f.post(t, intents+"/"+id+"/confirm", "", "payment_method=pm_card_visa").want(t, 400,
		"error.code", "payment_intent_unexpected_state", "error.payment_intent.id", id)
	f.read(t, "/v1/charges?payment_intent="+id).want(t, 200, "data.0.status", "succeeded", "data.1.status", "failed", "data.2", "<missing>")
	f.wantCharges(t, "r", 1)
}

func TestAuthenticationDependsOnTheSession(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	const card = "pm_card_authenticationRequired"
	onSession := f.post(t, intents, "", hail("r", "payment_method", card, "off_session", ""))
	onSession.want(t, 200, "status", "requires_action", "next_action.type", "use_stripe_sdk", "latest_charge", "<nil>")
	f.post(t, intents, "", hail("r", "payment_method", card, "off_session", "", "error_on_requires_action", "true")).want(t, 402,
		"error.code", "authentication_required", "error.payment_intent.status", "requires_payment_method", "error.charge", "<missing>")
	f.post(t, intents+"/"+onSession.get("id")+"/confirm", "", "payment_method=pm_card_visa").want(t, 200, "status", "succeeded", "next_action", "<nil>")
}

func TestAProcessingPaymentSettles(t *testing.T) {
	t.Parallel()
	form := hail("r", "payment_method", "pm_fake_processing")
	t.Run("It succeeds when it is due by the fake's clock, even after a restart.", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		f := open(t, Options{Dir: dir, SettleAfter: time.Hour})
		r := f.post(t, intents, "k1", form)
		r.want(t, 200, "status", "processing", "amount_received", "0")
		f.read(t, "/v1/charges/"+r.get("latest_charge")).want(t, 200, "status", "pending", "paid", "false")
		f.wantCharges(t, "r", 0)
		advance(t, f, 59*time.Minute)
		f.wantCharges(t, "r", 0)
		f = reopen(t, f, dir)
		advance(t, f, time.Minute)
		f.wantCharges(t, "r", 1)
		f.read(t, intents+"/"+r.get("id")+"?expand[]=latest_charge").want(t, 200, "status", "succeeded", "latest_charge.paid", "true")
		f.post(t, intents, "k1", form).want(t, 200, "status", "processing")
	})
	t.Run("It succeeds on command, once.", func(t *testing.T) {
		t.Parallel()
		f := open(t, Options{})
		id := f.post(t, intents, "", form).get("id")
		advance(t, f, 1000*time.Hour)
		f.wantCharges(t, "r", 0)
		f.post(t, intents+"/"+id+"/cancel", "", "").want(t, 400, "error.code", "payment_intent_unexpected_state")
		if err := f.Settle(id); err != nil {
			t.Fatal(err)
		}
		f.wantCharges(t, "r", 1)
		if f.Settle(id) == nil || f.Settle("pi_none") == nil {
			t.Error("Settle took a payment intent that is not processing")
		}
	})
	t.Run("It is declined on command.", func(t *testing.T) {
		t.Parallel()
		f := open(t, Options{})
		id := f.post(t, intents, "", form).get("id")
		if err := f.Decline(id, "lost_card"); err != nil {
			t.Fatal(err)
		}
		f.read(t, intents+"/"+id).want(t, 200, "status", "requires_payment_method", "last_payment_error.decline_code", "lost_card")
		f.wantCharges(t, "r", 0)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	declined := f.post(t, intents, "", hail("r", "payment_method", "pm_card_chargeCustomerFail")).get("error.payment_intent.id")
	f.post(t, intents+"/"+declined+"/cancel", "", "cancellation_reason=bored").want(t, 400, "error.param", "cancellation_reason")
	r := f.post(t, intents+"/"+declined+"/cancel", "", "cancellation_reason=abandoned")
	r.want(t, 200, "status", "canceled", "cancellation_reason", "abandoned")
	if r.get("canceled_at") == "<nil>" {
		t.Error("canceled_at is null")
	}
	f.post(t, intents+"/"+declined+"/cancel", "", "").want(t, 400, "error.code", "payment_intent_unexpected_state")
	f.post(t, intents+"/"+declined+"/confirm", "", "payment_method=pm_card_visa").want(t, 400, "error.code", "payment_intent_unexpected_state")
	paid := f.post(t, intents, "", hail("r2")).get("id")
	f.post(t, intents+"/"+paid+"/cancel", "", "").want(t, 400, "error.code", "payment_intent_unexpected_state",
		"error.payment_intent.status", "succeeded")
	f.post(t, intents+"/pi_none/cancel", "", "").want(t, 404, "error.code", "resource_missing")
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	paid := f.post(t, intents, "", hail("r1"))
	id, charge := paid.get("id"), paid.get("latest_charge")
	first := f.post(t, "/v1/refunds", "", "payment_intent="+id+"&amount=1000&metadata[a]=b&reason=duplicate&expand[]=charge")
	first.want(t, 200, "object", "refund", "amount", "1000", "status", "succeeded", "currency", "usd", "payment_intent", id,
		"metadata.a", "b", "reason", "duplicate", "charge.id", charge, "charge.amount_refunded", "1000", "charge.refunded", "false")
	f.post(t, "/v1/refunds", "", "charge="+charge+"&amount=1351").want(t, 400, "error.param", "amount")
	f.post(t, "/v1/refunds", "", "charge="+charge).want(t, 200, "amount", "1350")
	f.post(t, "/v1/refunds", "", "charge="+charge).want(t, 400, "error.code", "charge_already_refunded")
	f.read(t, intents+"/"+id+"?expand[]=latest_charge").want(t, 200, "status", "succeeded", "latest_charge.refunded", "true", "latest_charge.amount_refunded", "2350")
	f.read(t, "/v1/refunds/"+first.get("id")).want(t, 200, "amount", "1000", "charge", charge)
	f.read(t, "/v1/refunds?payment_intent="+id).want(t, 200, "data.0.amount", "1350", "data.1.amount", "1000", "data.2", "<missing>")
	f.wantCharges(t, "r1", 1)
	if got := f.PaymentIntents()[0]; got.Refunded != 2350 || got.Status != "succeeded" || got.Customer != "cus_visa" || got.Metadata["ride_id"] != "r1" || got.ChargeID != charge {
		t.Errorf("PaymentIntents shows %+v", got)
	}
	declined := f.post(t, intents, "", hail("r2", "payment_method", "pm_card_chargeCustomerFail"))
	for form, code := range map[string]string{
		"":                       "parameter_missing",
		"amount=5":               "parameter_missing",
		"payment_intent=pi_none": "resource_missing",
		"charge=ch_none":         "resource_missing",
		"charge=" + charge + "&payment_intent=" + id:                                    "parameter_missing",
		"charge=" + charge + "&amount=0":                                                "parameter_invalid_integer",
		"payment_intent=" + declined.get("error.payment_intent.id"):                     "payment_intent_unexpected_state",
		"payment_intent=" + f.post(t, intents, "", "amount=100&currency=usd").get("id"): "payment_intent_unexpected_state",
	} {
		f.post(t, "/v1/refunds", "", form).want(t, 400, "error.code", code)
	}
	f.post(t, "/v1/refunds", "", "charge="+declined.get("error.charge")).want(t, 400, "error.param", "charge")
}

func TestADisputedChargeShowsItAndCannotBeRefunded(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	id := f.post(t, intents, "", hail("r")).get("id")
	if err := f.Dispute(id, ""); err != nil {
		t.Fatal(err)
	}
	f.read(t, intents+"/"+id+"?expand[]=latest_charge").want(t, 200, "latest_charge.disputed", "true")
	f.post(t, "/v1/refunds", "", "payment_intent="+id).want(t, 400, "error.code", "charge_disputed")
	if !f.PaymentIntents()[0].Disputed || f.Dispute("pi_none", "") == nil || f.Dispute(id, "lively") == nil {
		t.Error("Dispute did not mark the charge, or took an intent or a status that does not exist")
	}
	unpaid := f.post(t, intents, "", hail("r2", "payment_method", "pm_card_chargeCustomerFail")).get("error.payment_intent.id")
	if f.Dispute(unpaid, "") == nil {
		t.Error("Dispute took an intent that was not paid")
	}
}

func TestCustomersAndTheirPaymentMethods(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	c := f.post(t, "/v1/customers", "", "email=a%40example.com&name=N&description=D&metadata[k]=v&payment_method=pm_card_visa")
	c.want(t, 200, "object", "customer", "email", "a@example.com", "name", "N", "metadata.k", "v", "livemode", "false")
	f.read(t, "/v1/customers/"+c.get("id")).want(t, 200, "email", "a@example.com")
	f.read(t, "/v1/customers/cus_none").want(t, 404, "error.code", "resource_missing", "error.message", "No such customer: 'cus_none'")
	f.read(t, "/v1/customers?email=a%40example.com").want(t, 200, "data.0.id", c.get("id"), "data.1", "<missing>")
	m := f.post(t, "/v1/payment_methods/pm_card_visa/attach", "", "customer="+c.get("id"))
	m.want(t, 200, "object", "payment_method", "customer", c.get("id"), "card.last4", "4242")
	own := []string{"payment_method", m.get("id")}
	f.post(t, intents, "", hail("r", append(own, "customer", c.get("id"))...)).want(t, 200, "payment_method", m.get("id"))
	f.post(t, intents, "", hail("r", own...)).want(t, 400, "error.code", "resource_missing", "error.param", "payment_method")
	f.post(t, intents, "", hail("r", append(own, "customer", "")...)).want(t, 400, "error.param", "payment_method")
	f.post(t, "/v1/payment_methods/"+m.get("id")+"/attach", "", "customer=cus_visa").want(t, 400, "error.code", "payment_method_unexpected_state")
	f.post(t, "/v1/payment_methods/pm_none/attach", "", "customer=cus_visa").want(t, 400, "error.code", "resource_missing")
	f.post(t, "/v1/payment_methods/pm_card_visa/attach", "", "customer=cus_none").want(t, 400, "error.code", "resource_missing")
	f.post(t, "/v1/payment_methods/pm_card_visa/attach", "", "").want(t, 400, "error.code", "parameter_missing")
	for _, card := range []string{"pm_card_chargeDeclined", "pm_card_visa_chargeDeclinedInsufficientFunds", "pm_card_chargeDeclinedExpiredCard"} {
		f.post(t, "/v1/payment_methods/"+card+"/attach", "", "customer=cus_visa").want(t, 402, "error.type", "card_error")
	}
	f.post(t, "/v1/payment_methods/pm_card_chargeCustomerFail/attach", "", "customer=cus_visa").want(t, 200)
}

// When a customer is deleted, its payments stay and its cards are detached.
func TestDeletedCustomersAndDetachedCardsAreGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	f.read(t, "/v1/payment_methods/pm_visa").want(t, 200, "object", "payment_method", "customer", "cus_visa")
	f.read(t, "/v1/payment_methods/pm_card_visa").want(t, 200, "id", "pm_card_visa", "customer", "<nil>")
	paid := f.post(t, intents, "", hail("r")).get("id")
	second := []string{"customer", "cus_second", "payment_method", "pm_second"}
	f.post(t, "/v1/payment_methods/pm_second/detach", "", "").want(t, 200, "customer", "<nil>")
	f.post(t, "/v1/payment_methods/pm_second/detach", "", "").want(t, 400, "error.code", "payment_method_unexpected_state")
	f.post(t, "/v1/payment_methods/pm_none/detach", "", "").want(t, 404)
	f.post(t, "/v1/payment_methods/pm_second/attach", "", "customer=cus_second").want(t, 400)
	f.post(t, intents, "", hail("r", second...)).want(t, 400, "error.param", "payment_method")
	if err := f.DeleteCustomer("cus_visa"); err != nil {
		t.Fatal(err)
	}
	f = reopen(t, f, dir)
	f.read(t, "/v1/customers/cus_visa").want(t, 200, "deleted", "true", "email", "<missing>")
	f.read(t, "/v1/customers?email=visa%40example.com").want(t, 200, "data.0", "<missing>")
	f.read(t, intents+"?customer=cus_visa").want(t, 400, "error.code", "resource_missing", "error.param", "customer")
	f.post(t, intents, "", hail("r")).want(t, 400, "error.code", "resource_missing", "error.param", "customer")
	f.read(t, intents+"/"+paid).want(t, 200, "customer", "cus_visa", "status", "succeeded")
	f.read(t, "/v1/payment_methods/pm_visa").want(t, 200, "customer", "<nil>")
	if f.DeleteCustomer("cus_visa") == nil || f.DeleteCustomer("cus_none") == nil {
		t.Error("a customer that isn't there was deleted")
	}
}

func TestAKeyOfTheOtherAccountSeesAndKeepsNothing(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	other := []string{"Authorization", "Bearer sk_test_other1"}
	f.read(t, "/v1/account").want(t, 200, "id", "acct_fake", "object", "account")
	f.read(t, "/v1/account", other...).want(t, 200, "id", "acct_other")
	paid := f.post(t, intents, "k1", hail("r"))
	f.read(t, intents+"/"+paid.get("id"), other...).want(t, 404)
	f.read(t, "/v1/customers/cus_visa", other...).want(t, 404)
	f.read(t, "/v1/payment_methods/pm_visa", other...).want(t, 404)
	f.read(t, intents, other...).want(t, 200, "data.0", "<missing>")
	missing := f.post(t, intents, "k1", hail("r"), other...)
	missing.want(t, 400, "error.code", "resource_missing", "error.param", "customer")
	missing.wantHeader(t, "Idempotent-Replayed", "")
	f.post(t, intents, "k2", hail("r2", "customer", "", "payment_method", "pm_card_visa"), other...).want(t, 200)
	f.read(t, intents, other...).want(t, 200, "data.0", "<missing>")
	f.wantCharges(t, "r2", 0)
	f.post(t, intents, "k2", hail("r2")).want(t, 200)
}

func TestTheSeedsCanBeUsedAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for customer, status := range map[string]int{"visa": 200, "declined": 402, "second": 200} {
		f.post(t, intents, "", hail("r", "customer", "cus_"+customer, "payment_method", "pm_"+customer)).want(t, status)
	}
}
