package fakestripe

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

const refunds = "/v1/refunds"

// refundedIntent returns a paid intent, and a refund of it that got a status by
// a fault.
func (f fake) refundedIntent(t *testing.T, fault Fault) (intent, refund string) {
	t.Helper()
	intent = f.post(t, intents, "", hail("r")).get("id")
	fault.Kind, fault.Match.Path = RefundOutcome, refunds
	f.Script(fault)
	r := f.post(t, refunds, intent, "payment_intent="+intent)
	r.want(t, 200, "status", fault.Refund, "amount", "2350")
	f.post(t, refunds, intent, "payment_intent="+intent).wantHeader(t, "Idempotent-Replayed", "true")
	return intent, r.get("id")
}

func TestARefundHasTheStatusThatWasScripted(t *testing.T) {
	t.Parallel()
	for status, refunded := range map[string]string{
		"pending": "2350", "requires_action": "2350", "succeeded": "2350", "failed": "0", "canceled": "0",
	} {
		t.Run(status+" leaves "+refunded+" refunded.", func(t *testing.T) {
			t.Parallel()
			f := open(t, Options{})
			intent, _ := f.refundedIntent(t, Fault{Refund: status})
			f.read(t, intents+"/"+intent+"?expand[]=latest_charge").want(t, 200,
				"latest_charge.amount_refunded", refunded, "latest_charge.refunded", strconv.FormatBool(refunded == "2350"))
			again := f.post(t, refunds, "", "payment_intent="+intent)
			if refunded == "0" {
				again.want(t, 200, "status", "succeeded", "amount", "2350")
			} else {
				again.want(t, 400, "error.code", "charge_already_refunded")
			}
		})
	}
}

func TestARefundChangesLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	intent, refund := f.refundedIntent(t, Fault{Refund: "pending", Then: "succeeded", After: Duration(time.Hour)})
	advance(t, f, 59*time.Minute)
	f.read(t, refunds+"/"+refund).want(t, 200, "status", "pending")
	f = reopen(t, f, dir)
	advance(t, f, time.Minute)
	f.read(t, refunds+"/"+refund).want(t, 200, "status", "succeeded", "failure_reason", "<missing>")
	f.post(t, refunds, intent, "payment_intent="+intent).want(t, 200, "status", "pending") // the saved answer stays
	// Stripe can find out late that the money did not arrive.
	f.control(t, http.MethodPost, "/_fake/refund", `{"refund":"`+refund+`","status":"failed"}`).want(t, 200, "refund", refund)
	f.read(t, refunds+"/"+refund).want(t, 200, "status", "failed", "failure_reason", "unknown")
	f.read(t, intents+"/"+intent+"?expand[]=latest_charge").want(t, 200,
		"latest_charge.amount_refunded", "0", "latest_charge.refunded", "false")
	if f.ChangeRefund(refund, "succeeded") == nil || f.ChangeRefund("re_none", "failed") == nil {
		t.Error("ChangeRefund took a refund that had failed, or that does not exist")
	}
	_, other := f.refundedIntent(t, Fault{Refund: "requires_action"})
	if f.ChangeRefund(other, "lost") == nil {
		t.Error("ChangeRefund took a status that does not exist")
	}
}

func TestTheDashboardRefunds(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	intent := f.post(t, intents, "", hail("r")).get("id")
	part := f.control(t, http.MethodPost, "/_fake/refund", `{"payment_intent":"`+intent+`","amount":500}`).get("refund")
	rest := f.control(t, http.MethodPost, "/_fake/refund", `{"payment_intent":"`+intent+`","status":"pending"}`).get("refund")
	f.read(t, refunds+"?payment_intent="+intent).want(t, 200, "data.0.id", rest, "data.0.amount", "1850", "data.0.status", "pending",
		"data.1.id", part, "data.1.amount", "500", "data.1.status", "succeeded", "data.1.metadata.operation", "<missing>")
	for _, wrong := range []string{
		`{"payment_intent":"` + intent + `"}`, // nothing is left
		`{"payment_intent":"pi_none"}`, `{"refund":"` + rest + `"}`, `{"refund":"` + rest + `","amount":1,"status":"failed"}`,
		`{"payment_intent":"` + intent + `","refund":"` + rest + `"}`, `{"payment_intent":"` + intent + `","amount":-1}`, `{}`,
	} {
		f.control(t, http.MethodPost, "/_fake/refund", wrong).want(t, 400)
	}
	if all := f.Refunds(); len(all) != 2 || all[0].ID != part || all[1].Amount != 1850 || all[1].Status != "pending" || all[0].Intent != intent {
		t.Errorf("Refunds shows %+v", all)
	}
	if n := len(f.Ledger()); n != 1 {
		t.Errorf("the ledger has %d writes, want 1: the dashboard sends none", n)
	}
}

func TestDisputesAreListed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	paid := f.post(t, intents, "", hail("r"))
	intent, charge := paid.get("id"), paid.get("latest_charge")
	dispute := func(status string) {
		t.Helper()
		f.control(t, http.MethodPost, "/_fake/dispute", `{"payment_intent":"`+intent+`","status":"`+status+`"}`).want(t, 200)
	}
	f.read(t, "/v1/disputes?payment_intent="+intent).want(t, 200, "data.0", "<missing>")
	dispute("")
	r := f.read(t, "/v1/disputes?payment_intent="+intent+"&expand[]=data.charge")
	r.want(t, 200, "data.0.object", "dispute", "data.0.status", "needs_response", "data.0.is_charge_refundable", "false",
		"data.0.charge.id", charge, "data.0.amount", "2350", "data.0.currency", "usd", "data.1", "<missing>")
	f = reopen(t, f, dir)
	f.read(t, "/v1/disputes/"+r.get("data.0.id")+"?expand[]=payment_intent").want(t, 200, "payment_intent.id", intent)
	f.read(t, "/v1/disputes/dp_none").want(t, 404, "error.code", "resource_missing")
	f.read(t, "/v1/disputes?charge="+f.post(t, intents, "", hail("r2")).get("latest_charge")).want(t, 200, "data.0", "<missing>")
	f.read(t, "/v1/disputes?charge=ch_none").want(t, 400, "error.code", "resource_missing")
	for _, status := range []string{"under_review", "lost"} {
		dispute(status)
		f.post(t, refunds, "", "payment_intent="+intent).want(t, 400, "error.code", "charge_disputed")
	}
	dispute("won")
	f.read(t, "/v1/disputes?charge="+charge).want(t, 200, "data.0.status", "won", "data.1", "<missing>")
	f.post(t, refunds, "", "payment_intent="+intent+"&amount=100").want(t, 200)
	dispute("warning_needs_response")
	f.post(t, refunds, "", "payment_intent="+intent).want(t, 200, "amount", "2250") // an inquiry blocks nothing
}
