package payments

import (
	"strings"
	"testing"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
	"pgregory.net/rapid"
)

func TestChargeFormIsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	form := NewChargeForm(ChargeTerms{
		Amount: 2350, Currency: "usd", Customer: "cus_1", PaymentMethod: "pm_1", Description: "Ride ride_1",
		RideID: "ride_1", AccountID: "acct_1", Operation: "0123abc",
	})
	want := "amount=2350&confirm=true&currency=usd&customer=cus_1&description=Ride+ride_1" +
		"&metadata[account_id]=acct_1&metadata[operation]=0123abc&metadata[ride_id]=ride_1" +
		"&payment_method=pm_1&payment_method_types[0]=card&off_session=true"
	wantEqual(t, "form", want, string(form))
}

func TestChargeFormsOfTheSameTermsAreTheSameBytes(t *testing.T) {
	t.Parallel()
	first := NewChargeForm(testTerms())
	for range 100 { // a map's order would differ
		wantEqual(t, "form", first, NewChargeForm(testTerms()))
	}
}

// The frozen form is read back for the comparison with Stripe's answer, so any
// character must survive.
func TestChargeFormReadsBackWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		form := NewChargeForm(terms)
		if got := form.terms(); got != terms {
			t.Fatalf("got %+v, want %+v", got, terms)
		}
		if err := checkFrozen(string(form), terms.Operation); err != nil {
			t.Fatalf("reading the form back: %v", err)
		}
		if want := stripeForm(terms); want != string(form) {
			t.Fatalf("stripe-go would write %q, and not %q", want, form)
		}
	})
}

// stripeForm returns the form as stripe-go encodes it.
func stripeForm(terms ChargeTerms) string {
	var values form.Values
	form.AppendTo(&values, &stripe.PaymentIntentParams{
		Amount: new(terms.Amount), Currency: new(terms.Currency), Customer: new(terms.Customer), PaymentMethod: new(terms.PaymentMethod),
		Confirm: new(true), OffSession: new(true), PaymentMethodTypes: stripe.StringSlice([]string{"card"}), Description: new(terms.Description),
		Metadata: map[string]string{"ride_id": terms.RideID, "account_id": terms.AccountID, "operation": terms.Operation},
	})
	return values.Encode()
}

func drawTerms(t *rapid.T) ChargeTerms {
	return ChargeTerms{
		Amount:        rapid.Int64Range(1, 99_999_999).Draw(t, "amount"),
		Currency:      rapid.StringMatching(`[a-z]{3}`).Draw(t, "currency"),
		Customer:      rapid.String().Draw(t, "customer"),
		PaymentMethod: rapid.String().Draw(t, "payment method"),
		Description:   rapid.String().Draw(t, "description"),
		RideID:        rapid.String().Draw(t, "ride"),
		AccountID:     rapid.String().Draw(t, "account"),
		Operation:     rapid.String().Draw(t, "operation"),
	}
}

func TestUnreadableChargeFormHasNoTerms(t *testing.T) {
	t.Parallel()
	for _, form := range []ChargeForm{"", "%", "amount=ten", "amount=99999999999999999999"} {
		wantEqual(t, "terms of "+string(form), ChargeTerms{}, form.terms())
	}
}

// An empty answer must not match an empty form.
func TestEmptyChargeFormMatchesNoIntent(t *testing.T) {
	t.Parallel()
	if ChargeForm("").matches(paymentIntent{}) {
		t.Error("an empty form matches an empty object")
	}
}

func TestChargeFormIsSentByteForByte(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := server.client(t, nil)
	sent := firstSend()
	sent.Form = ChargeForm([]byte(string(sent.Form))) // as it comes back from a text column
	if _, err := client.Charge(t.Context(), sent); err != nil {
		t.Fatalf("charging: %v", err)
	}
	for _, encoded := range []string{"%0A", "%E2%80%9C", "%3D%5Bx%5D", "%2B"} {
		if !strings.Contains(string(sent.Form), encoded) {
			t.Errorf("the form has no %s, so the test shows nothing: %s", encoded, sent.Form)
		}
	}
	wantEqual(t, "body", string(sent.Form), server.received(routeCreate)[0].body)
}
