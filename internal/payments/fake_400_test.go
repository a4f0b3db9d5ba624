package payments

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// The one send is refused because Stripe has no such customer or card, so
// nothing was and will be charged.
func TestFakeMissingPayerIsAFailedPayment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		customer, method string
		prepare          func(t *testing.T, f fakeStripe)
	}{
		"a customer that never was":                   {"cus_nope", "pm_visa", nil},
		"a customer that never was, with a test card": {"cus_nope", "pm_card_visa", nil},
		"a customer that was deleted": {"cus_visa", "pm_visa", func(t *testing.T, f fakeStripe) {
			t.Helper()
			if err := f.DeleteCustomer("cus_visa"); err != nil {
				t.Fatal(err)
			}
		}},
		"a payment method that never was":    {"cus_visa", "pm_none", nil},
		"another customer's payment method":  {"cus_visa", "pm_second", nil},
		"a payment method that was detached": {"cus_visa", "pm_visa", func(t *testing.T, f fakeStripe) { t.Helper(); f.post(t, "/v1/payment_methods/pm_visa/detach", "") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			if c.prepare != nil {
				c.prepare(t, f)
			}
			sent := fakeSentFor(c.customer, c.method)
			charge := f.mustCharge(t, sent, ChargeDeclined)
			wantEqual(t, "kind", "payment_failed", charge.DeclineKind)
			wantEqual(t, "code", "", charge.DeclineCode)
			sent.First = false // an earlier send may have charged, before the customer went
			wantEqual(t, "reason", "stripe_400", f.mustFail(t, sent, phases.LookUp).Reason)
		})
	}
}

func TestFake400BeforeTheExecutionRepeats(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_visa")
	f.Script(fakestripe.Fault{Kind: fakestripe.BadRequest400, Code: "parameter_unknown", Times: 2})
	for range 2 {
		failed := f.mustFail(t, sent, phases.Transient)
		wantEqual(t, "counts", true, failed.Counts)
		wantEqual(t, "reason", "stripe_400", failed.Reason)
		if !strings.Contains(failed.Error(), "parameter_unknown") {
			t.Errorf("the error lacks the cause: %v", failed.Err)
		}
	}
	f.mustCharge(t, sent, ChargeSucceeded)
	f.wantCharges(t, 1)
}

func TestFakeSaved400IsSuspectWithItsCause(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_visa")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved400, Code: "account_invalid"})
	f.mustFail(t, sent, phases.Transient) // nothing in the first answer says that it is saved
	charge := f.mustCharge(t, sent, ChargeSuspect)
	wantEqual(t, "reason", "stripe_400", charge.Reason)
	if !strings.Contains(charge.Detail, "code account_invalid") {
		t.Errorf("the detail lacks the cause: %s", charge.Detail)
	}
}

func TestFake400WithAnIntentIsCanceled(t *testing.T) {
	t.Parallel()
	for _, kind := range []fakestripe.Kind{fakestripe.BadRequest400, fakestripe.Saved400} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			f.Script(fakestripe.Fault{Kind: kind, Code: "payment_intent_invalid_parameter", Intent: true})
			sent := fakeSent("pm_visa")
			charge := f.mustCharge(t, sent, ChargeDeclined)
			wantEqual(t, "kind", "payment_failed", charge.DeclineKind)
			wantEqual(t, "status of the intent", "canceled", f.PaymentIntents()[0].Status)
			if kind == fakestripe.Saved400 {
				sent.First = false // as if the first answer had been lost
				wantEqual(t, "replay", charge.IntentID, f.mustCharge(t, sent, ChargeDeclined).IntentID)
			}
			if err := f.VerifyNotCharged(t.Context(), sent.Key, sent.Form, sent.FirstSentAt, nil); err != nil {
				t.Errorf("the intent is canceled, but got: %v", err)
			}
			f.wantCharges(t, 0)
		})
	}
}

func TestFake400ToALaterSendIsLookedUp(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_visa")
	f.Script(fakestripe.Fault{Kind: fakestripe.DropBefore}, fakestripe.Fault{Kind: fakestripe.BadRequest400})
	f.mustFail(t, sent, phases.Unknown)
	sent.First = false
	wantEqual(t, "reason", "stripe_400", f.mustFail(t, sent, phases.LookUp).Reason)
	if charge, err := f.FindCharge(t.Context(), sent, customers()); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v, want nothing found", charge, err)
	}
}

// post sends a request of its own to the fake.
func (f fakeStripe) post(t *testing.T, path, form string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path, strings.NewReader(form))
	if err != nil {
		t.Fatalf("making a request: %v", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+testKey)
	answer, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatalf("posting to %s: %v", path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	wantEqual(t, "status of the POST to "+path, http.StatusOK, answer.StatusCode)
}
