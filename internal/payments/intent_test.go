package payments

import (
	"encoding/json"
	"testing"

	stripe "github.com/stripe/stripe-go/v76"
)

func TestAnIntentIsDecodedAsByStripeGo(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"id":"pi_1","object":"payment_intent","amount":2350,"amount_received":2350,"currency":"usd","customer":"cus_1","livemode":true,
		"status":"succeeded","latest_charge":"ch_1","metadata":{"ride_id":"r","account_id":"a","operation":"o"},"next_action":{"a":[{}]}}`,
		`{"id":"pi_1","amount":5,"currency":"usd","customer":{"id":"cus_1","balance":1},"metadata":{"operation":"o","other":""},
		"latest_charge":{"id":"ch_1","object":"charge","paid":true,"captured":true,"status":"succeeded","amount_refunded":1}}`,
		`{"last_payment_error":{"type":"card_error","code":"card_declined","decline_code":"x","param":"p","charge":"ch_1","message":"m",
		"payment_intent":{"id":"pi_2"},"payment_method":{"id":"pm_1","card":{}},"setup_intent":{},"source":{"id":"card_1","object":"card"}}}`,
		`{"id":"pi_1","id":"pi_2","customer":null,"metadata":null,"status":null,"latest_charge":null}`,
		"{\"id\":\"\xff\\ud800\"}", `{"customer":1}`, `{"id":1}`, `{"metadata":{"operation":1}}`, `{"amount":1.5}`,
		`{"amount":99999999999999999999}`, `null`, `[]`, `{`, `{} {}`, ``, `<html>`,
	} {
		light, whole := new(intentAnswer), new(stripe.PaymentIntent)
		err, wantErr := light.decode([]byte(body)), json.Unmarshal([]byte(body), whole)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: got the error %v, want %v", body, err, wantErr)
		}
		if got, want := light.read(), readIntent(whole); err == nil && got != want {
			t.Errorf("%s: got %+v, want %+v", body, got, want)
		}
	}
}
