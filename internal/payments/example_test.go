package payments_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

func ExampleNewChargeForm() {
	form := payments.NewChargeForm(payments.ChargeTerms{
		Amount: 2350, Currency: "usd", Customer: "cus_1", PaymentMethod: "pm_1", Description: "Ride ride_1",
		RideID: "ride_1", AccountID: "acct_1", Operation: "0123abc",
	})
	fmt.Println(strings.ReplaceAll(string(form), "&", "\n"))
	// Output:
	// amount=2350
	// confirm=true
	// currency=usd
	// customer=cus_1
	// description=Ride+ride_1
	// metadata[account_id]=acct_1
	// metadata[operation]=0123abc
	// metadata[ride_id]=ride_1
	// payment_method=pm_1
	// payment_method_types[0]=card
	// off_session=true
}

func ExampleNewStripe() {
	stripe, err := payments.NewStripe(payments.Config{Key: "sk_test_123", URL: "http://127.0.0.1:12111", Timeout: 20 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stripe.Realm(), stripe.Live())
	// Output: test false
}

func ExampleNewStripe_unsafe() {
	for _, config := range []payments.Config{
		{Key: "pk_test_123", Timeout: 20 * time.Second},
		{Key: "sk_test_123"},
		{Key: "sk_live_123", URL: "http://127.0.0.1:12111", Timeout: 20 * time.Second},
	} {
		_, err := payments.NewStripe(config)
		fmt.Println(err)
	}
	// Output:
	// the Stripe key must be a secret or restricted API key: sk_test_…, sk_live_…, rk_test_… or rk_live_…
	// the Stripe time-out must be positive
	// a live Stripe key is only ever sent to https://api.stripe.com; leave STRIPE_URL unset, or use a test key with it
}

func ExampleLiveKey() {
	for _, key := range []string{"sk_test_123", "rk_live_123", "pk_live_123"} {
		live, err := payments.LiveKey(key)
		fmt.Println(live, err != nil)
	}
	// Output:
	// false false
	// true false
	// false true
}

func ExampleChargePossibleError() {
	var err error = &payments.ChargePossibleError{IntentID: "pi_1", Status: "succeeded"}
	fmt.Println(err)
	// Output: payment intent pi_1 has charged the card; resolve the key with --charged pi_1, or, unless it is disputed, refund it at Stripe first
}

// declining stands in for the network. It answers every charge like the bank of
// a card without money.
type declining struct{}

func (declining) RoundTrip(request *http.Request) (*http.Response, error) {
	body := `{"error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}}`
	return &http.Response{
		StatusCode: http.StatusPaymentRequired, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: request,
	}, nil
}

func ExampleStripe_Charge() {
	stripe, err := payments.NewStripe(payments.Config{Key: "sk_test_123", Timeout: 20 * time.Second, Transport: declining{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	form := payments.NewChargeForm(payments.ChargeTerms{Amount: 2350, Currency: "usd", Operation: "0123abc"})
	sent := phases.Sent[payments.ChargeForm]{Key: "0123abc", Form: form, First: true}
	charge, err := stripe.Charge(context.Background(), sent)
	fmt.Println(charge.Status, charge.DeclineKind, charge.DeclineCode, err)
	// Output: declined card_declined insufficient_funds <nil>
}
