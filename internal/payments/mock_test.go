//go:build stripemock

package payments

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
)

// These tests send every kind of request that the service makes to stripe-mock,
// which checks routes, parameters and their types against Stripe's published
// specification. It is stateless, so its answers prove nothing else. The tests
// need the tag stripemock, and the server's address in STRIPE_MOCK_URL.

func mockClient(t *testing.T) *Stripe {
	t.Helper()
	address := os.Getenv("STRIPE_MOCK_URL")
	if address == "" {
		t.Fatal("set STRIPE_MOCK_URL to a running stripe-mock, such as http://127.0.0.1:12111")
	}
	client, err := NewStripe(Config{Key: "sk_test_123", URL: address, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatalf("making the client: %v", err)
	}
	return client
}

func TestStripeMockAcceptsEveryRequest(t *testing.T) {
	t.Parallel()
	client, sent := mockClient(t), firstSend()
	for name, o := range map[string]*observation{
		"charge":           client.create(t.Context(), sent.Key, sent.Form),
		"read":             client.read(t.Context(), "pi_1", sent.Form),
		"list":             client.list(t.Context(), sent.FirstSentAt, sent.Key, []string{"cus_1"}),
		"list of all time": client.list(t.Context(), time.Time{}, sent.Key, []string{"cus_1"}),
		"cancel":           client.cancel(t.Context(), "pi_1", sent.Form),
		"refund":           client.createRefund(t.Context(), firstRefund().Key, firstRefund().Form, testPaid()),
		"refunds":          client.listRefunds(t.Context(), firstRefund().Form.Terms(), testPaid()),
	} {
		if !o.hasObject() {
			t.Errorf("%s: %s (%+v)", name, o.text(), o)
		}
	}
	// stripe-mock's own dispute is one of another payment.
	if _, o := client.disputes().page(t.Context(), disputeParams("pi_1")); !o.hasObject() {
		t.Errorf("disputes: %s", o.text())
	}
	params := listParams("cus_1", sent.FirstSentAt)
	params.StartingAfter = new("pi_1")
	if _, o := client.intents().page(t.Context(), params); !o.hasObject() {
		t.Errorf("list, next page: %s", o.text())
	}
	if err := client.Intents(t.Context(), sent.FirstSentAt, func([]Intent) error { return nil }); err != nil {
		t.Errorf("all intents, for an audit: %v", err)
	}
}

// This shows that the test above can fail.
func TestStripeMockRefusesWhatStripeDoesNotKnow(t *testing.T) {
	t.Parallel()
	client, sent := mockClient(t), firstSend()
	if o := client.create(t.Context(), sent.Key, sent.Form+"&unknown=1"); !o.badRequest() {
		t.Errorf("an unknown parameter: %s", o.text())
	}
	notNumber := ChargeForm(strings.Replace(string(sent.Form), "amount=2350", "amount=much", 1))
	if o := client.create(t.Context(), sent.Key, notNumber); !o.badRequest() {
		t.Errorf("an amount that isn't a number: %s", o.text())
	}
	if o := client.send(t.Context(), request{call: callList, method: http.MethodGet, path: intentsPath, form: "since=1"}, new(listPage[stripe.PaymentIntent])); !o.badRequest() {
		t.Errorf("an unknown filter: %s", o.text())
	}
}
