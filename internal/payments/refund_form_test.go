package payments

import (
	"testing"

	"pgregory.net/rapid"
)

func TestRefundFormIsExactlyThis(t *testing.T) {
	t.Parallel()
	terms := RefundTerms{IntentID: "pi_1", RideID: "ride_1", AccountID: "acct_1", Operation: "0123"}
	want := "metadata[account_id]=acct_1&metadata[operation]=0123&metadata[ride_id]=ride_1&payment_intent=pi_1"
	for range 100 { // a map's order would differ
		wantEqual(t, "form", RefundForm(want), NewRefundForm(terms))
	}
}

func TestRefundFormReadsBackWhatItWasMadeOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		terms := RefundTerms{
			IntentID: rapid.String().Draw(t, "intent"), RideID: rapid.String().Draw(t, "ride"),
			AccountID: rapid.String().Draw(t, "account"), Operation: rapid.String().Draw(t, "operation"),
		}
		form := NewRefundForm(terms)
		if got := form.Terms(); got != terms {
			t.Fatalf("got %+v, want %+v", got, terms)
		}
		if err := checkFrozen(string(form), terms.Operation); err != nil {
			t.Fatalf("it is frozen as %q and can't be sent so: %v", form, err)
		}
	})
	if got := RefundForm("%zz").Terms(); got != (RefundTerms{}) {
		t.Errorf("a form that can't be read has the terms %+v", got)
	}
}
