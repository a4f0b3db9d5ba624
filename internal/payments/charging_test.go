package payments

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestStripeListsTheCustomerSinceAnHourBeforeTheFirstSend(t *testing.T) {
	t.Parallel()
	other := intentWith(stripeObject{"id": "pi_7", "metadata": foreignMetadata()})
	another := intentWith(stripeObject{"id": "pi_8", "metadata": foreignMetadata()})
	stage := newStage(t, map[string][]http.HandlerFunc{
		routeList: {answerPage(true, other), answerPage(true, another), answerPage(false, intentWith(nil))},
		routeRead: {answerOK(expandedWith(nil, nil))},
	})
	client, _ := stage.client(t, nil)
	charge, err := client.FindCharge(t.Context(), stageSent())
	if err != nil || charge.Status != ChargeSucceeded {
		t.Fatalf("got %+v, %v, want the charge on the third page", charge, err)
	}
	since := strconv.FormatInt(stageSent().FirstSentAt.Add(-time.Hour).Unix(), 10)
	for i, after := range []string{"", "pi_7", "pi_8"} {
		want := url.Values{"customer": {"cus_1"}, "created[gte]": {since}, "limit": {"100"}}
		if after != "" {
			want.Set("starting_after", after)
		}
		wantEqual(t, "query", want, query(t, stage.seen(routeList)[i]))
	}
	read := stage.seen(routeRead)[0]
	wantEqual(t, "path", "/v1/payment_intents/pi_1", read.path)
	wantEqual(t, "query", url.Values{"expand[]": {"latest_charge"}}, query(t, read))
}

// A list that goes in circles would be read until the deadline, and Stripe
// counts every page.
func TestStripeListThatGoesNowhereIsGivenUp(t *testing.T) {
	t.Parallel()
	other := intentWith(stripeObject{"id": "pi_7", "metadata": foreignMetadata()})
	for name, c := range map[string]struct {
		pages []http.HandlerFunc
		reads int
	}{
		"the first page again":  {[]http.HandlerFunc{answerPage(true, other)}, 2},
		"an empty first page":   {[]http.HandlerFunc{answerPage(true)}, 1},
		"an empty second page":  {[]http.HandlerFunc{answerPage(true, other), answerPage(true)}, 2},
		"a broken second page":  {[]http.HandlerFunc{answerPage(true, other), answerWith(200, "{}")}, 2},
		"a refused second page": {[]http.HandlerFunc{answerPage(true, other), answerProblem(429, "invalid_request_error", "", nil)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, map[string][]http.HandlerFunc{routeList: c.pages})
			client, _ := stage.client(t, nil)
			_, err := client.FindCharge(t.Context(), stageSent())
			var failed *phases.CallError
			if !errors.As(err, &failed) || failed.Class != phases.Unknown {
				t.Errorf("got %v, want an unknown result", err)
			}
			wantEqual(t, "pages read", c.reads, len(stage.seen(routeList)))
		})
	}
}

func query(t *testing.T, request stageRequest) url.Values {
	t.Helper()
	values, err := url.ParseQuery(request.query)
	if err != nil {
		t.Fatalf("reading the query %q: %v", request.query, err)
	}
	return values
}

// A second attempt to cancel repeats the first, and neither can be taken for
// the charge.
func TestStripeCancelsUnderAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	c := listCase("", "", true, answerOK(failedIntent(nil)))
	c.plays[routeCancel] = []http.HandlerFunc{answerCut("", hangUp), answerOK(failedIntent(stripeObject{"status": "canceled"}))}
	stage := newStage(t, c.plays)
	client, _ := stage.client(t, nil)
	sent := stageSent()
	sent.WindowOver = true
	if charge, err := client.FindCharge(t.Context(), sent); err == nil {
		t.Fatalf("got %+v, want the broken connection", charge)
	}
	if charge, err := client.FindCharge(t.Context(), sent); err != nil || charge.Status != ChargeDeclined {
		t.Fatalf("got %+v, %v, want it declined", charge, err)
	}
	for _, request := range stage.seen(routeCancel) {
		wantEqual(t, "key", sent.Key+"-cancel", request.header.Get("Idempotency-Key"))
		wantEqual(t, "path", "/v1/payment_intents/pi_1/cancel", request.path)
		wantEqual(t, "body", "cancellation_reason=abandoned", request.body)
	}
	wantEqual(t, "cancels", 2, len(stage.seen(routeCancel)))
}

// An id is a piece of a path: one that isn't an id must not reach another
// endpoint.
func TestStripeVerifyRefusesWhatIsNoID(t *testing.T) {
	t.Parallel()
	stage := newStage(t, nil)
	client, _ := stage.client(t, nil)
	for _, id := range []string{"", "ch_1", "pi_1/cancel", "pi_1?x", "pi_1\n", "../customers"} {
		if charge, err := client.VerifyCharged(t.Context(), stageSent().Form, id); err == nil {
			t.Errorf("%q is taken for an id: %+v", id, charge)
		}
	}
}

func TestStripeVerifyCharged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		read   http.HandlerFunc
		status ChargeStatus // empty: an error
		reason string
	}{
		"it succeeded":                  {answerOK(expandedWith(nil, nil)), ChargeSucceeded, ""},
		"it has another amount":         {answerOK(expandedWith(stripeObject{"amount": 1, "amount_received": 1}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another currency":       {answerOK(expandedWith(stripeObject{"currency": "eur"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another customer":       {answerOK(expandedWith(stripeObject{"customer": "cus_2"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it has another operation":      {answerOK(expandedWith(stripeObject{"metadata": foreignMetadata()}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it is another intent":          {answerOK(expandedWith(stripeObject{"id": "pi_2"}, nil)), ChargeSuspect, "stripe_mismatch"},
		"it was refunded":               {answerOK(expandedWith(nil, stripeObject{"refunded": true})), ChargeSuspect, "stripe_refunded"},
		"it failed":                     {answerOK(failedIntent(nil)), ChargeDeclined, ""},
		"it was canceled":               {answerOK(failedIntent(stripeObject{"status": "canceled"})), ChargeDeclined, ""},
		"it doesn't exist":              {answerProblem(404, "invalid_request_error", "resource_missing", nil), ChargeSuspect, "stripe_unexpected"},
		"it cannot be read":             {answerCut("", hangUp), "", ""},
		"Stripe has trouble of its own": {answerProblem(500, "api_error", "", nil), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, map[string][]http.HandlerFunc{routeRead: {c.read}})
			client, _ := stage.client(t, nil)
			charge, err := client.VerifyCharged(t.Context(), stageSent().Form, "pi_1")
			if (err != nil) != (c.status == "") {
				t.Fatalf("got %+v, %v", charge, err)
			}
			wantEqual(t, "status", c.status, charge.Status)
			wantEqual(t, "reason", c.reason, charge.Reason)
		})
	}
}

// TestStripeVerifyChargedSaysWhy: an operator sees what is wrong with the
// intent, and not only that something is.
func TestStripeVerifyChargedSaysWhy(t *testing.T) {
	t.Parallel()
	for detail, read := range map[string]http.HandlerFunc{
		"Stripe knows no payment intent pi_1": answerProblem(404, "invalid_request_error", "resource_missing", nil),
		"its amount is 1, not 2350":           answerOK(expandedWith(stripeObject{"amount": 1}, nil)),
		"its currency is eur, not usd":        answerOK(expandedWith(stripeObject{"currency": "eur"}, nil)),
		"its customer is cus_2, not cus_1":    answerOK(expandedWith(stripeObject{"customer": "cus_2"}, nil)),
		"its status is requires_payment_method, not succeeded; its amount received is 0, not 2350": answerOK(failedIntent(nil)),
		"it was refunded": answerOK(expandedWith(nil, stripeObject{"amount_refunded": 1})),
		"it was disputed": answerOK(expandedWith(nil, stripeObject{"disputed": true})),
		"its account is acct_2, not acct_1; its ride is ride_2, not ride_1; its operation is 0123, not " + stageSent().Form.Operation(): answerOK(expandedWith(stripeObject{"metadata": foreignMetadata()}, nil)),
		"its operation is empty, not " + stageSent().Form.Operation():                                                                   answerOK(expandedWith(stripeObject{"metadata": stripeObject{"account_id": "acct_1", "ride_id": "ride_1"}}, nil)),
		"its customer is (unreadable), not cus_1":                                                                                       answerOK(expandedWith(stripeObject{"customer": "a secret: sk_test_x"}, nil)),
	} {
		t.Run(detail, func(t *testing.T) {
			t.Parallel()
			client, _ := newStage(t, map[string][]http.HandlerFunc{routeRead: {read}}).client(t, nil)
			charge, err := client.VerifyCharged(t.Context(), stageSent().Form, "pi_1")
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "detail", detail, charge.Detail)
		})
	}
}

func TestStripeVerifyNotCharged(t *testing.T) {
	t.Parallel()
	ours := answerPage(false, intentWith(nil))
	broken := answerProblem(500, "api_error", "", nil)
	for name, c := range map[string]struct {
		list, read http.HandlerFunc
		status     string // of the intent that may have charged; empty: none
		unseen     bool
	}{
		"there is nothing":                     {answerPage(false), nil, "", false},
		"there are only others":                {answerPage(false, intentWith(stripeObject{"metadata": foreignMetadata()})), nil, "", false},
		"it was canceled":                      {ours, answerOK(failedIntent(stripeObject{"status": "canceled"})), "", false},
		"it was refunded in full":              {ours, answerOK(expandedWith(nil, stripeObject{"refunded": true})), "", false},
		"it was refunded in part":              {ours, answerOK(expandedWith(nil, stripeObject{"amount_refunded": 1})), "succeeded", false},
		"it was refunded and is disputed":      {ours, answerOK(expandedWith(nil, stripeObject{"refunded": true, "disputed": true})), "succeeded", false},
		"it succeeded":                         {ours, answerOK(expandedWith(nil, nil)), "succeeded", false},
		"it is processing":                     {ours, answerOK(expandedWith(stripeObject{"status": "processing"}, nil)), "processing", false},
		"it failed, and can be tried again":    {ours, answerOK(failedIntent(nil)), "requires_payment_method", false},
		"it is canceled, but another answered": {ours, answerOK(failedIntent(stripeObject{"id": "pi_2", "status": "canceled"})), "canceled", false},
		"the list cannot be read":              {broken, nil, "", true},
		"the list is {}":                       {answerWith(200, "{}"), nil, "", true},
		"the intent cannot be read":            {ours, broken, "", true},
		"the intent is gone":                   {ours, answerProblem(404, "invalid_request_error", "resource_missing", nil), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plays := map[string][]http.HandlerFunc{routeList: {c.list}}
			if c.read != nil {
				plays[routeRead] = []http.HandlerFunc{c.read}
			}
			stage := newStage(t, plays)
			client, _ := stage.client(t, nil)
			err := client.VerifyNotCharged(t.Context(), stageSent().Form, stageSent().FirstSentAt)
			var possible *ChargePossibleError
			switch {
			case c.unseen && errors.As(err, &possible):
				t.Errorf("got %v, though nobody has seen the intent", err)
			case errors.As(err, &possible):
				wantEqual(t, "error", &ChargePossibleError{IntentID: "pi_1", Status: c.status}, possible)
				wantNoSecrets(t, err.Error())
			case (err != nil) != c.unseen || c.status != "":
				t.Errorf("got %v", err)
			}
		})
	}
}

// One harmless intent says nothing about the next.
func TestStripeVerifyNotChargedReadsEveryIntent(t *testing.T) {
	t.Parallel()
	stage := newStage(t, map[string][]http.HandlerFunc{
		routeList: {answerPage(true, intentWith(nil)), answerPage(false, intentWith(stripeObject{"id": "pi_2"}))},
		routeRead: {
			answerOK(failedIntent(stripeObject{"status": "canceled"})),
			answerOK(expandedWith(stripeObject{"id": "pi_2"}, nil)),
		},
	})
	client, _ := stage.client(t, nil)
	err := client.VerifyNotCharged(t.Context(), stageSent().Form, time.Time{})
	if err == nil || !strings.Contains(err.Error(), "pi_2 is succeeded") {
		t.Errorf("got %v, want a word about pi_2", err)
	}
	wantEqual(t, "query", url.Values{"customer": {"cus_1"}, "limit": {"100"}}, query(t, stage.seen(routeList)[0]))
}
