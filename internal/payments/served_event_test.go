package payments

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	routeReadCharge  = "GET /v1/charges/{id}"
	routeReadRefund  = "GET /v1/refunds/{id}"
	routeReadDispute = "GET /v1/disputes/{id}"
)

// A servedEvent is an answer to the GET of the object that an event is about,
// and what it must lead to: an intent, none, or an error.
type servedEvent struct {
	kind   ObjectKind
	id     string
	route  string
	answer http.HandlerFunc
	row    string
	want   string // the id of the intent
	failed bool
}

func servedEvents() map[string]servedEvent {
	charge := func(more object) object {
		body := object{"id": "ch_1", "object": "charge", "livemode": false, "payment_intent": intentWith(nil)}
		maps.Copy(body, more)
		return body
	}
	return map[string]servedEvent{
		"an intent":                       {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(nil)), "object_read", "pi_1", false},
		"a charge":                        {ObjectCharge, "ch_1", routeReadCharge, answerOK(charge(nil)), "object_read", "pi_1", false},
		"a refund":                        {ObjectRefund, "re_1", routeReadRefund, answerOK(object{"id": "re_1", "object": "refund", "payment_intent": intentWith(nil)}), "object_read", "pi_1", false},
		"a dispute":                       {ObjectDispute, "dp_1", routeReadDispute, answerOK(object{"id": "dp_1", "object": "dispute", "payment_intent": intentWith(nil)}), "object_read", "pi_1", false},
		"a charge without an intent":      {ObjectCharge, "ch_1", routeReadCharge, answerOK(charge(object{"payment_intent": nil})), "object_read", "", false},
		"an object that Stripe lacks":     {ObjectCharge, "ch_1", routeReadCharge, answerError(404, "invalid_request_error", "resource_missing", nil), "object_missing", "", false},
		"another object":                  {ObjectCharge, "ch_1", routeReadCharge, answerOK(charge(object{"id": "ch_2"})), "object_unclear", "", true},
		"an object of another kind":       {ObjectRefund, "ch_1", routeReadRefund, answerOK(charge(nil)), "object_unclear", "", true},
		"an intent of the other mode":     {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(object{"livemode": true})), "object_unclear", "", true},
		"an intent that isn't expanded":   {ObjectCharge, "ch_1", routeReadCharge, answerOK(charge(object{"payment_intent": "pi_1"})), "object_unclear", "", true},
		"an id that no row can hold":      {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(object{"latest_charge": "ch_\x00"})), "object_unclear", "", true},
		"a 200 with {}":                   {ObjectIntent, "pi_1", routeRead, answerOK(object{}), "object_unclear", "", true},
		"a 500":                           {ObjectIntent, "pi_1", routeRead, answerError(500, "api_error", "", nil), "object_unclear", "", true},
		"an array":                        {ObjectIntent, "pi_1", routeRead, answerWith(200, "[]"), "object_unclear", "", true},
		"a connection that breaks":        {ObjectIntent, "pi_1", routeRead, answerCut("", hangUp), "object_unclear", "", true},
		"a 404 without a code":            {ObjectIntent, "pi_1", routeRead, answerError(404, "invalid_request_error", "", nil), "object_unclear", "", true},
		"an intent that was never ours":   {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(object{"metadata": object{"account_id": "our shop", "operation": "x"}})), "object_read", "pi_1", false},
		"an intent without any metadata":  {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(object{"metadata": object{}})), "object_read", "pi_1", false},
		"an intent with a canceled order": {ObjectIntent, "pi_1", routeRead, answerOK(intentWith(object{"status": "canceled"})), "object_read", "pi_1", false},
	}
}

func TestTheIntentOfAnEvent(t *testing.T) {
	t.Parallel()
	for name, c := range servedEvents() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{c.route: {c.answer}})
			client, registry := server.client(t, nil)
			got, found, err := client.EventIntent(t.Context(), c.kind, c.id)
			if (err != nil) != c.failed || found != (c.want != "") || got.ID != c.want {
				t.Errorf("got %+v, %t, %v", got, found, err)
			}
			if err != nil {
				wantNoSecrets(t, err.Error())
			}
			if rows := judgments(t, registry); !slices.Equal(rows, []string{"event/" + c.row}) {
				t.Errorf("judged by %v, want %s", rows, c.row)
			}
			if strings.HasPrefix(name, "an intent that was never") && (got.Account != "" || got.Operation != "") {
				t.Errorf("it is taken for ours: %+v", got)
			}
		})
	}
}

// An id can't lead anywhere but to an object of its kind.
func TestAnEventLeadsToNoOtherAddress(t *testing.T) {
	t.Parallel()
	server := newStripeServer(t, map[string][]http.HandlerFunc{"GET /v1/charges/{id...}": {answerError(404, "invalid_request_error", "resource_missing", nil)}})
	client, _ := server.client(t, nil)
	if _, found, err := client.EventIntent(t.Context(), ObjectCharge, "../customers/cus_1?x=[]"); found || err != nil {
		t.Errorf("got %t, %v", found, err)
	}
	if path := server.received("GET /v1/charges/{id...}")[0].path; path != "/v1/charges/../customers/cus_1?x=[]" {
		t.Errorf("asked for %s", path)
	}
}

func TestWhatSettlesACharge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		intent       object
		open, closed bool // whether it settles the charge before and after the window
	}{
		"charged":            {expandedWith(nil, nil), true, true},
		"of another amount":  {expandedWith(object{"amount": 1}, nil), false, false},
		"of another ride":    {expandedWith(object{"metadata": object{"ride_id": "ride_2", "account_id": "acct_1", "operation": testTerms().Operation}}, nil), false, false},
		"processing":         {intentWith(object{"status": "processing", "amount_received": 0}), false, false},
		"failed":             {failedIntent(nil), false, true},
		"failed, canceled":   {failedIntent(object{"status": "canceled"}), true, true},
		"refunded meanwhile": {expandedWith(nil, object{"amount_refunded": 5}), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newStripeServer(t, map[string][]http.HandlerFunc{routeRead: {answerOK(c.intent)}})
			client, _ := server.client(t, nil)
			intent, found, err := client.EventIntent(t.Context(), ObjectIntent, "pi_1")
			if err != nil || !found {
				t.Fatal(found, err)
			}
			sent := phases.Sent[ChargeForm]{Form: NewChargeForm(testTerms())}
			wantEqual(t, "before the window is over", c.open, client.Settles(intent, sent))
			sent.Ref = "pi_1"
			wantEqual(t, "once Stripe has named it", c.closed, client.Settles(intent, sent))
			sent.Ref, sent.WindowOver = "", true
			wantEqual(t, "after the window", c.closed, client.Settles(intent, sent))
		})
	}
}

// TestFakeIntentIsClosed: after a decline nobody can make the payment intent
// succeed any more.
func TestFakeIntentIsClosed(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSentFor("cus_declined", "pm_declined")
	charge := f.mustCharge(t, sent, ChargeDeclined)
	for range 2 { // again, it is closed already
		if closed, err := f.CloseIntent(t.Context(), charge.IntentID, sent.Key); err != nil || !closed {
			t.Fatalf("got %t, %v", closed, err)
		}
	}
	wantEqual(t, "status", "canceled", f.PaymentIntents()[0].Status)
	if closed, err := f.CloseIntent(t.Context(), "pi_gone", "another operation"); err != nil || !closed {
		t.Errorf("one that Stripe doesn't have: %t, %v", closed, err)
	}
	f = openFake(t, nil)
	paid := fakeSent("pm_card_visa")
	succeeded := f.mustCharge(t, paid, ChargeSucceeded)
	if closed, err := f.CloseIntent(t.Context(), succeeded.IntentID, paid.Key); err != nil || closed {
		t.Errorf("one that has charged the card: %t, %v", closed, err)
	}
	f.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	if _, err := f.CloseIntent(t.Context(), "pi_x", "op"); err == nil {
		t.Error("an answer that was lost counts as closed")
	}
}

func TestFakeIntentThatIsStillWorkedOn(t *testing.T) {
	t.Parallel()
	f := openFake(t, func(c *Config) { c.Timeout = 5 * time.Second })
	sent := fakeSent("pm_fake_processing")
	charge := f.mustCharge(t, sent, ChargeProcessing)
	if closed, err := f.CloseIntent(t.Context(), charge.IntentID, sent.Key); err == nil {
		t.Errorf("a payment that may still succeed counts as closed: %t", closed)
	}
}
