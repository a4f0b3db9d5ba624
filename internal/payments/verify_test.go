package payments

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// The id becomes a part of the path, so what isn't an id could reach another
// endpoint.
func TestVerifyChargedRefusesAnInvalidID(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, nil)
	client, _ := server.client(t, nil)
	for _, id := range []string{"", "ch_1", "pi_1/cancel", "pi_1?x", "pi_1\n", "../customers"} {
		if charge, err := client.VerifyCharged(t.Context(), firstSend().Key, firstSend().Form, id); err == nil {
			t.Errorf("%q is accepted as an id: %+v", id, charge)
		}
	}
}

func TestVerifyCharged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		read   http.HandlerFunc
		status ChargeStatus // empty: an error
		reason string
	}{
		"it succeeded":                     {answerOK(expandedWith(nil, nil)), ChargeSucceeded, ""},
		"it has another amount":            {answerOK(expandedWith(object{"amount": 1, "amount_received": 1}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another currency":          {answerOK(expandedWith(object{"currency": "eur"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another customer":          {answerOK(expandedWith(object{"customer": "cus_2"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another mode":              {answerOK(expandedWith(object{"livemode": true}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another operation":         {answerOK(expandedWith(object{"metadata": foreignMetadata()}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it is another intent":             {answerOK(expandedWith(object{"id": "pi_2"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it was refunded":                  {answerOK(expandedWith(nil, object{"refunded": true})), ChargeSuspect, "stripe_refunded"},
		"it was refunded in part":          {answerOK(expandedWith(nil, object{"amount_refunded": 1})), ChargeSucceeded, ""},
		"it is disputed":                   {answerOK(expandedWith(nil, object{"disputed": true})), ChargeSucceeded, ""},
		"it was refunded, and is disputed": {answerOK(expandedWith(nil, object{"refunded": true, "disputed": true})), ChargeSucceeded, ""},
		"it failed":                        {answerOK(failedIntent(nil)), ChargeDeclined, ""},
		"it was canceled":                  {answerOK(failedIntent(object{"status": "canceled"})), ChargeDeclined, ""},
		"it doesn't exist":                 {answerError(404, "invalid_request_error", "resource_missing", nil), ChargeSuspect, "stripe_unexpected"},
		"it cannot be read":                {answerCut("", hangUp), "", ""},
		"Stripe fails":                     {answerError(500, "api_error", "", nil), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeRead: {c.read}})
			client, _ := server.client(t, nil)
			charge, err := client.VerifyCharged(t.Context(), firstSend().Key, firstSend().Form, "pi_1")
			if (err != nil) != (c.status == "") {
				t.Fatalf("got %+v, %v", charge, err)
			}
			wantEqual(t, "status", c.status, charge.Status)
			wantEqual(t, "reason", c.reason, charge.Reason)
		})
	}
}

// An operator must see what is wrong with the intent, not only that something
// is.
func TestVerifyChargedSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for detail, read := range map[string]http.HandlerFunc{
		"Stripe knows no payment intent pi_1": answerError(404, "invalid_request_error", "resource_missing", nil),
		"its amount is 1, not 2350":           answerOK(expandedWith(object{"amount": 1}, nil)),
		"its currency is eur, not usd":        answerOK(expandedWith(object{"currency": "eur"}, nil)),
		"its customer is cus_2, not cus_1":    answerOK(expandedWith(object{"customer": "cus_2"}, nil)),
		"its mode is live, not test":          answerOK(expandedWith(object{"livemode": true}, nil)),
		"its status is requires_payment_method, not succeeded; its amount received is 0, not 2350": answerOK(failedIntent(nil)),
		"it was refunded in full": answerOK(expandedWith(nil, object{"refunded": true})),
		"its account is acct_2, not acct_1; its ride is ride_2, not ride_1; its operation is 0123, not " + testTerms().Operation: answerOK(expandedWith(object{"metadata": foreignMetadata()}, nil)),
		"its operation is empty, not " + testTerms().Operation:                                                                   answerOK(expandedWith(object{"metadata": object{"account_id": "acct_1", "ride_id": "ride_1"}}, nil)),
		"its customer is (unreadable), not cus_1":                                                                                answerOK(expandedWith(object{"customer": "a secret: sk_test_x"}, nil)),
	} {
		t.Run(detail, func(t *testing.T) {
			t.Parallel()
			client, _ := newStripeServer(t, map[string][]http.HandlerFunc{routeRead: {read}}).client(t, nil)
			charge, err := client.VerifyCharged(t.Context(), firstSend().Key, firstSend().Form, "pi_1")
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "detail", detail, charge.Detail)
		})
	}
}

func TestVerifyNotCharged(t *testing.T) {
	t.Parallel()
	ours := answerPage(false, intentWith(nil))
	broken := answerError(500, "api_error", "", nil)
	for name, c := range map[string]struct {
		list, read http.HandlerFunc
		status     string // of the intent that may have charged; empty: none
		unseen     bool
	}{
		"there is nothing":                     {answerPage(false), nil, "", false},
		"there are only others":                {answerPage(false, intentWith(object{"metadata": foreignMetadata()})), nil, "", false},
		"it was canceled":                      {ours, answerOK(failedIntent(object{"status": "canceled"})), "", false},
		"it was canceled with money in it":     {ours, answerOK(failedIntent(object{"status": "canceled", "amount_received": 1})), "canceled", false},
		"it was refunded in full":              {ours, answerOK(expandedWith(nil, object{"refunded": true})), "", false},
		"it was refunded in part":              {ours, answerOK(expandedWith(nil, object{"amount_refunded": 1})), "succeeded", false},
		"it was refunded and is disputed":      {ours, answerOK(expandedWith(nil, object{"refunded": true, "disputed": true})), "succeeded", false},
		"it succeeded":                         {ours, answerOK(expandedWith(nil, nil)), "succeeded", false},
		"it is processing":                     {ours, answerOK(expandedWith(object{"status": "processing"}, nil)), "processing", false},
		"it failed, and can be tried again":    {ours, answerOK(failedIntent(nil)), "requires_payment_method", false},
		"it is canceled, but another answered": {ours, answerOK(failedIntent(object{"id": "pi_2", "status": "canceled"})), "canceled", false},
		"Stripe doesn't know the customer": {
			answerError(400, "invalid_request_error", "resource_missing", object{"param": "customer"}), nil, "", false,
		},
		"the list is refused":       {answerError(400, "invalid_request_error", "resource_missing", object{"param": "starting_after"}), nil, "", true},
		"the list cannot be read":   {broken, nil, "", true},
		"the list is {}":            {answerWith(200, "{}"), nil, "", true},
		"the intent cannot be read": {ours, broken, "", true},
		"the intent is gone":        {ours, answerError(404, "invalid_request_error", "resource_missing", nil), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := map[string][]http.HandlerFunc{routeList: {c.list}}
			answers[routeCustomer] = []http.HandlerFunc{answerError(404, "invalid_request_error", "resource_missing", nil)}
			if c.read != nil {
				answers[routeRead] = []http.HandlerFunc{c.read}
			}
			server := newStripeServer(t, answers)
			client, _ := server.client(t, nil)
			err := client.VerifyNotCharged(t.Context(), firstSend().Key, firstSend().Form, firstSend().FirstSentAt, nil)
			var possible *ChargePossibleError
			switch {
			case c.unseen && errors.As(err, &possible):
				t.Errorf("got %v, but the intent was not seen", err)
			case errors.As(err, &possible):
				wantEqual(t, "error", &ChargePossibleError{IntentID: "pi_1", Status: c.status}, possible)
				wantNoSecrets(t, err.Error())
			case (err != nil) != c.unseen || c.status != "":
				t.Errorf("got %v", err)
			}
		})
	}
}

// That one intent holds no money says nothing about the next.
func TestVerifyNotChargedReadsEveryIntent(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, map[string][]http.HandlerFunc{
		routeList: {answerPage(true, intentWith(nil)), answerPage(false, intentWith(object{"id": "pi_2"}))},
		routeRead: {
			answerOK(failedIntent(object{"status": "canceled"})),
			answerOK(expandedWith(object{"id": "pi_2"}, nil)),
		},
	})
	client, _ := server.client(t, nil)
	err := client.VerifyNotCharged(t.Context(), firstSend().Key, firstSend().Form, time.Time{}, nil)
	if possible, ok := errors.AsType[*ChargePossibleError](err); !ok || possible.IntentID != "pi_2" || possible.Status != "succeeded" {
		t.Errorf("got %v, want an error about pi_2", err)
	}
	wantEqual(t, "query", url.Values{"customer": {"cus_1"}, "limit": {"100"}}, query(t, server.received(routeList)[0]))
}

// A damaged form names no customer, and a list of nobody's is everybody's: it
// would take minutes, or never end in time.
func TestADamagedFormListsTheAccountsCustomers(t *testing.T) {
	t.Parallel()
	nobody := testTerms()
	nobody.Customer = ""
	for _, form := range []ChargeForm{"%zz", NewChargeForm(nobody)} {
		for _, others := range [][]string{{"cus_2"}, nil} {
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeList: {answerPage(false)}})
			client, _ := server.client(t, nil)
			err := client.VerifyNotCharged(t.Context(), firstSend().Key, form, time.Time{}, others)
			if others == nil && !errors.Is(err, errNoCustomer) || others != nil && err != nil {
				t.Errorf("%s, and the customers %v: %v", form, others, err)
			}
			wantListed(t, server, others)
		}
	}
	for _, others := range [][]string{{"cus_2"}, nil} {
		server := newStripeServer(t, map[string][]http.HandlerFunc{routeList: {answerPage(false)}})
		client, _ := server.client(t, nil)
		sent := firstSend()
		sent.Form = NewChargeForm(nobody)
		_, err := client.FindCharge(t.Context(), sent, customers(others...))
		if want := []error{errNoCustomer, phases.ErrNothingFound}[len(others)]; !errors.Is(err, want) {
			t.Errorf("looking up a charge of the customers %v: %v", others, err)
		}
		wantListed(t, server, others)
	}
}

// wantListed fails the test if others than these customers were listed.
func wantListed(t *testing.T, server *stripeServer, customers []string) {
	t.Helper()
	var listed []string
	for _, request := range server.received(routeList) {
		listed = append(listed, query(t, request).Get("customer"))
	}
	wantEqual(t, "customers", customers, listed)
}
