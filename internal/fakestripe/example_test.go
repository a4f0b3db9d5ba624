package fakestripe_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// A test scripts a fault, charges a card twice under one key, and looks at what
// Stripe did.
func Example() {
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(fake)
	defer server.Close()
	defer fake.Close() //nolint:errcheck // there is no journal to write

	// The next charge is made, but its answer is lost.
	fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	fmt.Println("first try: ", charge(server.URL))
	fmt.Println("second try:", charge(server.URL))

	for _, send := range fake.Ledger() {
		fmt.Printf("%s %s: %d, fault %q, replayed %t\n", send.Method, send.Path, send.Status, send.Fault, send.Replayed)
	}
	fmt.Println("charges:", fake.Charges()["ride_1"])
	// Output:
	// first try:  no answer
	// second try: 200 OK
	// POST /v1/payment_intents: 200, fault "drop_after", replayed false
	// POST /v1/payment_intents: 200, fault "", replayed true
	// charges: 1
}

// charge charges 23.50 USD for ride_1, and returns the status of the answer.
func charge(url string) string {
	const form = "amount=2350&currency=usd&customer=cus_visa&payment_method=pm_visa&confirm=true&off_session=true" +
		"&payment_method_types[]=card&metadata[ride_id]=ride_1"
	request, err := http.NewRequest(http.MethodPost, url+"/v1/payment_intents", strings.NewReader(form)) //nolint:noctx // an example has no context
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Authorization", "Bearer sk_test_123")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Idempotency-Key", "key_1")
	response, err := client.Do(request)
	if err != nil {
		return "no answer"
	}
	_ = response.Body.Close() // the status is all that matters here
	return response.Status
}

// client uses each connection once, so that net/http sends nothing again by
// itself.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
