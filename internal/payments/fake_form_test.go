package payments

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// The fake's form parser reads every character as stripe-go's encoder meant it.
func TestFakeReadsTheFormAsItWasMade(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	text := rapid.StringOfN(rapid.RuneFrom([]rune{'a', 'Z', '0', ' ', '+', '%', '&', '=', '[', ']', '"', '\\', '\n', 'ü', '€', '😀', '\u2028', '~', ';'}), 1, 40, -1)
	turn := 0
	rapid.Check(t, func(rt *rapid.T) {
		turn++
		terms := ChargeTerms{
			Amount: rapid.Int64Range(50, 99_999_999).Draw(rt, "amount"), Currency: "usd", Customer: "cus_visa", PaymentMethod: "pm_visa",
			Description: text.Draw(rt, "description"), RideID: text.Draw(rt, "ride"), AccountID: text.Draw(rt, "account"), Operation: fmt.Sprint("op", turn),
		}
		sent := fakeSent("pm_visa")
		sent.Key, sent.Form = terms.Operation, NewChargeForm(terms)
		charge, err := f.Charge(t.Context(), sent)
		if err != nil || charge.Status != ChargeSucceeded {
			rt.Fatalf("%+v: %+v, %v", terms, charge, err)
		}
		intents := f.PaymentIntents()
		made := intents[slices.IndexFunc(intents, func(i fakestripe.PaymentIntent) bool { return i.ID == charge.IntentID })]
		if made.Amount != terms.Amount ||
			made.Metadata["ride_id"] != terms.RideID || made.Metadata["account_id"] != terms.AccountID {
			rt.Fatalf("%+v was read as %+v", terms, made)
		}
		sends := f.Ledger()
		got := sends[len(sends)-1]
		if got.Params["description"] != terms.Description || got.Params["metadata[operation]"] != got.Key || got.Body != string(sent.Form) {
			rt.Fatalf("%+v is in the ledger as %+v", terms, got)
		}
	})
}
