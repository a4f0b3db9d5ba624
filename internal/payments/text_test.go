package payments

import (
	"net/http"
	"strings"
	"testing"
)

// A person who has to decide about a mismatch reads what doesn't match, whether
// the charge's own answer shows it or a read.
func TestTheTextOfAMismatchSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	for said, intent := range map[string]object{
		"its mode is live, not test":            expandedWith(object{"livemode": true}, nil),
		"its amount is 2351, not 2350":          expandedWith(object{"amount": 2351}, nil),
		"its currency is eur, not usd":          expandedWith(object{"currency": "eur"}, nil),
		"its customer is another one":           expandedWith(object{"customer": "cus_2"}, nil),
		"its ride is ride_2, not ride_1":        expandedWith(object{"metadata": foreignMetadata()}, nil),
		"its account is acct_2, not acct_1":     expandedWith(object{"metadata": foreignMetadata()}, nil),
		"its operation is 0123, not ":           expandedWith(object{"metadata": foreignMetadata()}, nil),
		"its currency is (unreadable), not usd": expandedWith(object{"currency": "a secret: sk_test_x"}, nil),
		"its charge is (unreadable)":            expandedWith(nil, object{"id": "ch_1 sk_test_x"}),
		"its charge was not paid":               expandedWith(nil, object{"paid": false}),
		"its id is pi_2, not pi_1":              expandedWith(object{"id": "pi_2"}, nil),
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			client, _ := newStripeServer(t, map[string][]http.HandlerFunc{
				routeCreate: {answerOK(intent)}, routeRead: {answerOK(intent)},
			}).client(t, nil)
			sent := firstSend()
			read := sent
			read.Ref = "pi_1"
			charge, err := client.FindCharge(t.Context(), read, customers())
			wantMismatch(t, said, charge, err)
			if !strings.HasPrefix(said, "its id") { // a charge asks for no id
				charge, err = client.Charge(t.Context(), sent)
				wantMismatch(t, said, charge, err)
			}
		})
	}
}

func wantMismatch(t *testing.T, said string, charge Charge, err error) {
	t.Helper()
	if err != nil || charge.Reason != parkMismatch || !strings.Contains(charge.Detail, said) {
		t.Errorf("got %s, %v, and its text is %q, want %q in it", charge.Reason, err, charge.Detail, said)
	}
	wantNoSecrets(t, charge.Detail)
}

// The form of another key is not shown to Stripe, and the text must not say so.
func TestTheTextOfAWrongFormAsksNobody(t *testing.T) {
	t.Parallel()
	client, _ := newStripeServer(t, nil).client(t, nil)
	sent := firstSend()
	sent.Key += "0"
	charge, err := client.FindCharge(t.Context(), sent, customers())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "detail", "the frozen form belongs to another idempotency key", charge.Detail)
}
