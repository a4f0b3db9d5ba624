package command

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

// stripeClient returns Stripe's own client for the fake.
func stripeClient(url string) *client.API {
	return client.New("sk_test_123", stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		URL: new(url), MaxNetworkRetries: stripe.Int64(0), EnableTelemetry: new(false),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	}))
}

func ride(key, method string) *stripe.PaymentIntentParams {
	p := &stripe.PaymentIntentParams{
		Amount: stripe.Int64(2350), Currency: new("usd"), Customer: new("cus_visa"),
		PaymentMethod: new(method), Confirm: new(true), OffSession: new(true),
		PaymentMethodTypes: []*string{new("card")}, Description: new("A ride"),
		Metadata: map[string]string{"ride_id": key},
	}
	p.SetIdempotencyKey(key)
	return p
}

// Stripe's own client reads every object of the fake, whose state survives a
// kill -9.
func TestStripesClientUnderstandsTheFake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, url := start(t, "--data", dir)
	api := stripeClient(url)
	paid, err := api.PaymentIntents.New(ride("r1", "pm_card_visa"))
	if err != nil || paid.Status != stripe.PaymentIntentStatusSucceeded || paid.LatestCharge.ID == "" || paid.Customer.ID != "cus_visa" || paid.Metadata["ride_id"] != "r1" {
		t.Fatalf("a ride is %+v, %v", paid, err)
	}
	_, err = api.PaymentIntents.New(ride("r2", "pm_card_chargeCustomerFail"))
	var declined *stripe.Error
	if !errors.As(err, &declined) || declined.HTTPStatusCode != 402 || declined.Code != stripe.ErrorCodeCardDeclined || declined.ChargeID == "" ||
		declined.PaymentIntent.Status != stripe.PaymentIntentStatusRequiresPaymentMethod || declined.PaymentIntent.LastPaymentError.DeclineCode != stripe.DeclineCodeGenericDecline {
		t.Fatalf("a decline is %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it says that the process was killed
	_, url = start(t, "--data", dir)
	api = stripeClient(url)
	again, err := api.PaymentIntents.New(ride("r1", "pm_card_visa"))
	if err != nil || again.ID != paid.ID || again.LastResponse.Header.Get("Idempotent-Replayed") != "true" || !bytes.Equal(again.LastResponse.RawJSON, paid.LastResponse.RawJSON) {
		t.Fatalf("the replay is %+v, %v", again, err)
	}
	checkReading(t, api, paid.ID)
	checkRefund(t, api, paid.ID)
	canceled, err := api.PaymentIntents.Cancel(declined.PaymentIntent.ID, nil)
	if err != nil || canceled.Status != stripe.PaymentIntentStatusCanceled || canceled.CanceledAt == 0 {
		t.Errorf("the canceled one is %+v, %v", canceled, err)
	}
	if _, err := api.PaymentIntents.New(ride("r1", "pm_card_mastercard")); !strings.Contains(err.Error(), string(stripe.ErrorTypeIdempotency)) {
		t.Errorf("a reused key is %v", err)
	}
}

// Stripe's own client retries with a key of its own making, and tells errors
// apart. make fakestripe-clients asks the same of those of other languages.
func TestStripesClientRetriesAgainstTheFake(t *testing.T) {
	t.Parallel()
	_, url := start(t)
	if status := post(t, url+"/_fake/faults", `[{"kind":"drop_after"},{"kind":"503"},{"kind":"429","times":-1,"match":{"key":"limited"}}]`); status != 200 {
		t.Fatal(status)
	}
	api := client.New("sk_test_123", stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		URL: new(url), MaxNetworkRetries: stripe.Int64(3), EnableTelemetry: new(false),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		// net/http would send again by itself what a used connection has lost.
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}))
	own := ride("retried", "pm_card_visa")
	own.IdempotencyKey = nil // the client makes one
	paid, err := api.PaymentIntents.New(own)
	if err != nil || paid.Status != stripe.PaymentIntentStatusSucceeded || paid.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("a retried charge is %+v, %v", paid, err)
	}
	if charges := api.Charges.List(&stripe.ChargeListParams{Customer: new("cus_visa")}); !charges.Next() || charges.Next() {
		t.Error("a retried charge was not made once")
	}
	wrong := ride("wrong", "pm_card_visa")
	wrong.Amount = stripe.Int64(-1)
	var invalid *stripe.InvalidRequestError
	if _, err := api.PaymentIntents.New(wrong); !errors.As(err, &invalid) {
		t.Errorf("a wrong amount is %v", err)
	}
	var limited *stripe.Error
	if _, err := api.PaymentIntents.New(ride("limited", "pm_card_visa")); !errors.As(err, &limited) || limited.HTTPStatusCode != 429 || limited.Code != stripe.ErrorCodeRateLimit {
		t.Errorf("a limited request is %v", err)
	}
}

func checkReading(t *testing.T, api *client.API, id string) {
	t.Helper()
	get := &stripe.PaymentIntentParams{}
	get.AddExpand("latest_charge")
	pi, err := api.PaymentIntents.Get(id, get)
	if err != nil || !pi.LatestCharge.Paid || pi.LatestCharge.Refunded || pi.LatestCharge.Outcome.Type != "authorized" || pi.LatestCharge.PaymentMethodDetails.Card.Last4 != "4242" {
		t.Errorf("GET shows %+v, %v", pi, err)
	}
	list := &stripe.PaymentIntentListParams{
		Customer: new("cus_visa"), CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: 1, LesserThan: pi.Created + 100},
	}
	list.Limit = stripe.Int64(1)
	list.AddExpand("data.latest_charge")
	var statuses []string
	for all := api.PaymentIntents.List(list); all.Next(); {
		statuses = append(statuses, string(all.PaymentIntent().Status)+" "+string(all.PaymentIntent().LatestCharge.Status))
	}
	if got := strings.Join(statuses, ", "); got != "requires_payment_method failed, succeeded succeeded" {
		t.Errorf("the list over all pages is %s", got)
	}
	charges := api.Charges.List(&stripe.ChargeListParams{PaymentIntent: new(id)})
	if !charges.Next() || charges.Charge().PaymentIntent.ID != id || charges.Next() || charges.Err() != nil {
		t.Errorf("the charges are not the one: %v", charges.Err())
	}
}

func checkRefund(t *testing.T, api *client.API, id string) {
	t.Helper()
	params := &stripe.RefundParams{PaymentIntent: new(id), Metadata: map[string]string{"ride_id": "r1"}}
	params.SetIdempotencyKey("refund")
	refund, err := api.Refunds.New(params)
	if err != nil || refund.Amount != 2350 || refund.Status != stripe.RefundStatusSucceeded || refund.PaymentIntent.ID != id {
		t.Errorf("the refund is %+v, %v", refund, err)
	}
	refunds := api.Refunds.List(&stripe.RefundListParams{PaymentIntent: new(id)})
	if !refunds.Next() || refunds.Refund().ID != refund.ID || refunds.Next() {
		t.Errorf("the refunds are not the one: %v", refunds.Err())
	}
}
