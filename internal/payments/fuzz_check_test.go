package payments

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// An intentJSON is a payment intent in an answer, decoded without stripe-go's
// types.
type intentJSON struct {
	Object   string            `json:"object"`
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Amount   int64             `json:"amount"`
	Received int64             `json:"amount_received"`
	Currency string            `json:"currency"`
	Customer json.RawMessage   `json:"customer"`
	Metadata map[string]string `json:"metadata"`
	Live     bool              `json:"livemode"`
	Charge   json.RawMessage   `json:"latest_charge"`
}

type chargeJSON struct {
	Object         string `json:"object"`
	Status         string `json:"status"`
	Paid           bool   `json:"paid"`
	Captured       bool   `json:"captured"`
	Refunded       bool   `json:"refunded"`
	Disputed       bool   `json:"disputed"`
	AmountRefunded int64  `json:"amount_refunded"`
}

// idIn returns the id of an object of Stripe's, which may be expanded or not.
func idIn(raw json.RawMessage) string {
	var id string
	var object struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(raw, &id) == nil {
		return id
	}
	_ = json.Unmarshal(raw, &object) // anything else has no id
	return object.ID
}

// ours reports whether the intent is exactly what testTerms asks for.
func (i intentJSON) ours() bool {
	terms := testTerms()
	return i.Object == "payment_intent" && !i.Live && i.ID != "" && i.Amount == terms.Amount && i.Currency == terms.Currency && idIn(i.Customer) == terms.Customer &&
		i.Metadata["ride_id"] == terms.RideID && i.Metadata["account_id"] == terms.AccountID && i.Metadata["operation"] == terms.Operation
}

// paid reports whether the intent shows that its money was taken and not given
// back. In the answer to the charge itself (created) the charge need not be
// expanded.
func (i intentJSON) paid(created bool) bool {
	var charge chargeJSON
	expanded := json.Unmarshal(i.Charge, &charge) == nil && charge.Object != ""
	clean := charge.Paid && charge.Captured && charge.Status == "succeeded"
	if !expanded {
		clean = created
	}
	return i.Status == "succeeded" && i.Received == i.Amount && idIn(i.Charge) != "" &&
		clean && !charge.Refunded && !charge.Disputed && charge.AmountRefunded <= 0
}

// checkVerdict fails the test if the result doesn't follow from the last
// answer.
func checkVerdict(t *testing.T, stripe *cannedStripe, sent phases.Sent[ChargeForm], charge Charge, err error) {
	t.Helper()
	for _, text := range []string{errorText(err), charge.Detail, charge.DeclineCode, charge.Reason, charge.IntentID, charge.ChargeID} {
		if strings.Contains(text, testKey) {
			t.Fatalf("the API key is in %q", text)
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 64<<10 {
			t.Fatalf("no row can hold %q", text)
		}
	}
	// What Stripe says about the API key decides nothing about a charge.
	stripe.served = slices.DeleteFunc(stripe.served, func(route string) bool { return route == routeAccount })
	route := stripe.served[len(stripe.served)-1]
	answer := stripe.answers[route]
	if err != nil {
		if charge != (Charge{}) {
			t.Fatalf("the error %v comes with %+v", err, charge)
		}
		checkFailure(t, stripe, sent, err)
		return
	}
	var intent intentJSON
	readable := json.Unmarshal(answer.body, &intent) == nil && !answer.cut
	ours := readable && answer.status == 200 && intent.ours()
	believed := readable
	switch charge.Status {
	case ChargeSucceeded:
		believed = ours && intent.paid(route == routeCreate) && charge.IntentID == intent.ID && charge.ChargeID == idIn(intent.Charge) &&
			(route == routeRead || route == routeCreate && answer.header.Get(replayedHeader) == "")
	case ChargeProcessing:
		believed = ours && intent.Status == "processing" && charge.IntentID == intent.ID
	case ChargeDeclined:
		believed = ours && slices.Contains([]string{"requires_payment_method", "canceled"}, intent.Status) ||
			route == routeCreate && readable && stripe.refuses(sent) && charge.DeclineKind != "" ||
			(route == routeCustomer || route == routeMethod) && readable && stripe.neverBegan(sent) && answer.payerGone(route) && charge.DeclineKind == "payment_failed"
	case ChargeSuspect:
		believed = readable && charge.Reason != "" // a person decides; after a cut or broken answer the engine asks again
	default:
		t.Fatalf("the status is %q", charge.Status)
	}
	if !believed {
		t.Fatalf("%+v after %v, by %d %q (cut %t)", charge, stripe.served, answer.status, answer.body, answer.cut)
	}
}

// refuses reports whether the answer to a charge says that the card was not
// charged and won't be.
func (s *cannedStripe) refuses(sent phases.Sent[ChargeForm]) bool {
	var body struct {
		Error struct {
			Type   string      `json:"type"`
			Intent *intentJSON `json:"payment_intent"`
		} `json:"error"`
	}
	answer := s.answers[routeCreate]
	if json.Unmarshal(answer.body, &body) != nil || answer.header.Get(replayedHeader) == "true" {
		return false
	}
	if answer.status == 402 {
		intent := body.Error.Intent
		return body.Error.Type == "card_error" && ((intent == nil || intent.ID == "") && sent.First || intent != nil && intent.ours() && intent.Status == "requires_payment_method")
	}
	return s.neverBegan(sent) && slices.Contains(cardCodes(), s.refusal().Code)
}

// neverBegan reports whether the answer to a charge says that Stripe made
// nothing, and no other send can have.
func (s *cannedStripe) neverBegan(sent phases.Sent[ChargeForm]) bool {
	answer, refusal := s.answers[routeCreate], s.refusal()
	return (answer.status == 400 || answer.status == 404) && !answer.cut && sent.First && answer.header.Get(replayedHeader) != "true" &&
		refusal.Type == "invalid_request_error" && refusal.Charge == "" && (refusal.Intent == nil || refusal.Intent.ID == "")
}

type refusalJSON struct {
	Type   string      `json:"type"`
	Code   string      `json:"code"`
	Charge string      `json:"charge"`
	Intent *intentJSON `json:"payment_intent"`
}

// refusal returns the error in the answer to a charge.
func (s *cannedStripe) refusal() refusalJSON {
	var body struct {
		Error refusalJSON `json:"error"`
	}
	_ = json.Unmarshal(s.answers[routeCreate].body, &body) // anything else has no error
	return body.Error
}

// payerGone reports whether the answer says that a customer, or a payment
// method of the customer's, isn't there.
func (a cannedAnswer) payerGone(route string) bool {
	var body struct {
		Error    refusalJSON     `json:"error"`
		ID       string          `json:"id"`
		Deleted  bool            `json:"deleted"`
		Live     bool            `json:"livemode"`
		Customer json.RawMessage `json:"customer"`
	}
	_ = json.Unmarshal(a.body, &body) // anything else says nothing
	switch {
	case a.cut:
		return false
	case a.status == 200 && route == routeCustomer:
		return body.ID == "cus_1" && body.Deleted
	case a.status == 200:
		return body.ID == "pm_1" && !body.Live && idIn(body.Customer) != "cus_1"
	}
	return (a.status == 400 || a.status == 404) && body.Error.Code == "resource_missing"
}

// checkFailure fails the test if the error isn't of a known class, or is
// transient after anything but a refusal that Stripe gives before it acts.
func checkFailure(t *testing.T, stripe *cannedStripe, sent phases.Sent[ChargeForm], err error) {
	t.Helper()
	if errors.Is(err, phases.ErrNothingFound) {
		return
	}
	var failed *phases.CallError
	if !errors.As(err, &failed) {
		t.Fatalf("%v is not a call error", err)
	}
	if failed.Backoff.Initial < 0 || failed.Backoff.Initial > failed.Backoff.Max || failed.Backoff.Max > maxRetryAfter {
		t.Fatalf("it asks to wait %+v", failed.Backoff)
	}
	answer := stripe.answers[routeCreate]
	switch failed.Class {
	case phases.Unknown:
	case phases.LookUp:
		if failed.Reason == "" || !slices.Contains(stripe.served, routeCreate) {
			t.Fatalf("%v for the reason %q after %v", err, failed.Reason, stripe.served)
		}
	case phases.Transient:
		payerRead := slices.Contains(stripe.served, routeCustomer) && failed.Counts && failed.Reason == "stripe_400" && stripe.neverBegan(sent)
		if !slices.Equal(stripe.served, []string{routeCreate}) && !payerRead || answer.cut || !json.Valid(answer.body) || !slices.Contains([]int{400, 401, 403, 404, 429}, answer.status) {
			t.Fatalf("%v after %v, by %d %q (first %t)", err, stripe.served, answer.status, answer.body, sent.First)
		}
	default:
		t.Fatalf("the class is %d", failed.Class)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
