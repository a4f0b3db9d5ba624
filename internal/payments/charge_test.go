package payments

import (
	"strings"
	"testing"

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
	first := NewChargeForm(stageTerms())
	for range 100 { // a map's order would differ
		wantEqual(t, "form", first, NewChargeForm(stageTerms()))
	}
}

// What was frozen is read back for the comparison with Stripe's answer, so it
// must survive any character.
func TestChargeFormReadsBackWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		form := NewChargeForm(terms)
		got := ChargeTerms{
			Amount: form.Amount(), Currency: form.Currency(), Customer: form.Customer(), PaymentMethod: form.PaymentMethod(),
			Description: form.Description(), RideID: form.RideID(), AccountID: form.AccountID(), Operation: form.Operation(),
		}
		if got != terms {
			t.Fatalf("got %+v, want %+v", got, terms)
		}
		values, err := form.values()
		if err != nil {
			t.Fatalf("reading the form back: %v", err)
		}
		if again := values.Encode(); again != string(form) {
			t.Fatalf("would be sent as %q, frozen as %q", again, form)
		}
	})
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

func TestChargeFormThatIsNoneHoldsNothing(t *testing.T) {
	t.Parallel()
	for _, form := range []ChargeForm{"", "%", "amount=ten", "amount=99999999999999999999"} {
		wantEqual(t, "amount of "+string(form), int64(0), form.Amount())
		wantEqual(t, "operation of "+string(form), "", form.Operation())
	}
}

// An answer that lacks everything must not match a form that lacks everything.
func TestChargeFormNeverAskedForAnObjectWithoutAnID(t *testing.T) {
	t.Parallel()
	if ChargeForm("").asked(paymentIntent{}) {
		t.Error("an empty form asked for an empty object")
	}
}

func TestChargeFormIsSentByteForByte(t *testing.T) {
	t.Parallel()
	stage := newStage(t, chargeOnly(answerOK(intentWith(nil))))
	client, _ := stage.client(t, nil)
	sent := stageSent()
	sent.Form = ChargeForm([]byte(string(sent.Form))) // as it comes back from a text column
	if _, err := client.Charge(t.Context(), sent); err != nil {
		t.Fatalf("charging: %v", err)
	}
	for _, odd := range []string{"%0A", "%E2%80%9C", "%3D%5Bx%5D", "%2B"} {
		if !strings.Contains(string(sent.Form), odd) {
			t.Errorf("the form has no %s to get wrong: %s", odd, sent.Form)
		}
	}
	wantEqual(t, "body", string(sent.Form), stage.seen(routeCreate)[0].body)
}
