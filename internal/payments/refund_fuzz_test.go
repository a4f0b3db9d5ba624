package payments

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A refundJSON is a refund in an answer, decoded without stripe-go's types.
type refundJSON struct {
	Object   string            `json:"object"`
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Amount   int64             `json:"amount"`
	Currency string            `json:"currency"`
	Intent   json.RawMessage   `json:"payment_intent"`
	Metadata map[string]string `json:"metadata"`
}

// FuzzStripeRefund gives any answer to a refund, and to the question for all
// refunds that may follow.
func FuzzStripeRefund(f *testing.F) {
	page := func(refunds ...string) []byte {
		return []byte(`{"object":"list","has_more":false,"data":[` + strings.Join(refunds, ",") + `]}`)
	}
	ours := encodeObject(refundWith(nil))
	bodies := []string{"", "{}", "null", ours, encodeObject(refundWith(object{"currency": "eur"})), encodeObject(refundWith(object{"amount": 9}))}
	for _, status := range []string{"pending", "failed", "canceled", "requires_action", "new"} {
		bodies = append(bodies, encodeObject(refundWith(object{"status": status})))
	}
	for i, body := range append(bodies, seedErrors()...) {
		for _, code := range []int{200, 400, 404, 409, 429, 500} {
			f.Add(uint8(i%4), statusSeed(code), []byte(body), statusSeed(200), page(bodies[3+i%8]), "3")
		}
	}
	for _, code := range []string{"charge_already_refunded", "charge_disputed"} {
		refusal := []byte(encodeObject(object{"error": object{"type": "invalid_request_error", "code": code}}))
		f.Add(uint8(bitFirst), statusSeed(400), refusal, statusSeed(200), page(), "3")
		f.Add(uint8(0), statusSeed(400), refusal, statusSeed(200), page(ours), "3")
	}
	f.Fuzz(func(t *testing.T, bits uint8, status uint16, body []byte, listStatus uint16, list []byte, word string) {
		answers := map[string]cannedAnswer{
			routeRefund:  answerFrom(bits, status, body, word, bits&bitReplayed != 0),
			routeRefunds: answerFrom(bits>>5, listStatus, list, word, false),
			routeAccount: answerFrom(bits>>5, listStatus, list, word, false),
		}
		sent := firstRefund()
		sent.First, sent.WindowOver = bits&bitFirst != 0, bits&bitWindowOver != 0
		stripe := &cannedStripe{answers: answers}
		refund, err := stripe.client(t).Refund(t.Context(), sent, testPaid())
		checkRefund(t, stripe, refund, err)
		stripe = &cannedStripe{answers: answers}
		refund, err = stripe.client(t).FindRefund(t.Context(), sent, testPaid())
		if slices.Contains(stripe.served, routeRefund) {
			t.Fatalf("a look-up made the requests %v", stripe.served)
		}
		checkRefund(t, stripe, refund, err)
		checkOneRow(t, stripe.client(t).createRefund(t.Context(), sent.Key, sent.Form, testPaid()))
		checkOneRow(t, stripe.client(t).listRefunds(t.Context(), sent.Form.Terms(), testPaid()))
	})
}

// checkRefund fails the test if a result that is final doesn't follow from the
// last answer, or if an error lets the engine send again after one that may
// have refunded.
func checkRefund(t *testing.T, stripe *cannedStripe, refund Refund, err error) {
	t.Helper()
	for _, text := range []string{errorText(err), refund.Detail, refund.Given.ID, refund.Reason} {
		if strings.Contains(text, testKey) {
			t.Fatalf("the API key is in %q", text)
		}
	}
	stripe.served = slices.DeleteFunc(stripe.served, func(route string) bool { return route == routeAccount })
	route := stripe.served[len(stripe.served)-1]
	answer := stripe.answers[route]
	if err != nil {
		var failed *phases.CallError
		if errors.As(err, &failed) && failed.Class == phases.Transient && !slices.Contains([]int{400, 401, 403, 404, 429}, answer.status) ||
			failed == nil && !errors.Is(err, phases.ErrNothingFound) {
			t.Fatalf("%v after %v, by %d %q", err, stripe.served, answer.status, answer.body)
		}
		return
	}
	var list struct {
		Data []refundJSON `json:"data"`
	}
	if route == routeRefund {
		list.Data = make([]refundJSON, 1)
		_ = json.Unmarshal(answer.body, &list.Data[0]) // anything else gives nothing back
	} else {
		_ = json.Unmarshal(answer.body, &list)
	}
	var back int64
	seen, failed := map[string]bool{}, false
	for _, r := range list.Data {
		if r.Status == "succeeded" && idIn(r.Intent) == "pi_1" && r.Currency == "usd" && !seen[r.ID] {
			back += r.Amount
		}
		seen[r.ID] = true
		failed = failed || r.Metadata["operation"] == firstRefund().Key && (r.Status == "failed" || r.Status == "canceled")
	}
	refused := stripe.answers[routeRefund].status == 400 || stripe.answers[routeRefund].status == 404
	if answer.cut || refund.Result == RefundDone && (answer.status != 200 || back != 2350) || refund.Result == RefundRefused && !failed && !refused {
		t.Fatalf("%+v after %v, by %d %q (cut %t)", refund, stripe.served, answer.status, answer.body, answer.cut)
	}
}
