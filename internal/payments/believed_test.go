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

// A believedIntent is what an answer says of a payment intent, read by other
// types than stripe-go's.
type believedIntent struct {
	Object   string            `json:"object"`
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Amount   int64             `json:"amount"`
	Received int64             `json:"amount_received"`
	Currency string            `json:"currency"`
	Customer json.RawMessage   `json:"customer"`
	Metadata map[string]string `json:"metadata"`
	Charge   json.RawMessage   `json:"latest_charge"`
}

type believedCharge struct {
	ID             string `json:"id"`
	Paid           bool   `json:"paid"`
	Captured       bool   `json:"captured"`
	Refunded       bool   `json:"refunded"`
	Disputed       bool   `json:"disputed"`
	AmountRefunded int64  `json:"amount_refunded"`
}

// idIn returns the id of an object of Stripe's, which may be expanded.
func idIn(raw json.RawMessage) string {
	var id string
	var object struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(raw, &id) == nil {
		return id
	}
	_ = json.Unmarshal(raw, &object) // what is neither has no id
	return object.ID
}

// ours tells whether the intent is exactly what stageTerms ask for.
func (i believedIntent) ours() bool {
	terms := stageTerms()
	return i.Object == "payment_intent" && i.ID != "" && i.Amount == terms.Amount && i.Currency == terms.Currency && idIn(i.Customer) == terms.Customer &&
		i.Metadata["ride_id"] == terms.RideID && i.Metadata["account_id"] == terms.AccountID && i.Metadata["operation"] == terms.Operation
}

// paid tells whether the intent shows that its money was taken and not given
// back. The answer to the charge itself need not show the charge.
func (i believedIntent) paid(created bool) bool {
	var charge believedCharge
	expanded := json.Unmarshal(i.Charge, &charge) == nil
	clean := expanded && charge.Paid && charge.Captured
	if !expanded {
		clean = created
	}
	return i.Status == "succeeded" && i.Received == i.Amount && idIn(i.Charge) != "" &&
		(clean || created) && !charge.Refunded && !charge.Disputed && charge.AmountRefunded <= 0
}

// checkVerdict says what must be true of any verdict, by the last answer alone.
func checkVerdict(t *testing.T, play *playedStripe, sent phases.Sent[ChargeForm], charge Charge, err error) {
	t.Helper()
	for _, text := range []string{errorText(err), charge.Detail, charge.Message, charge.DeclineCode, charge.Reason, charge.RequestID, charge.IntentID, charge.ChargeID} {
		if strings.Contains(text, stageKey) {
			t.Fatalf("the API key is in %q", text)
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 64<<10 {
			t.Fatalf("no row can hold %q", text)
		}
	}
	route := play.served[len(play.served)-1]
	answer := play.plays[route]
	if err != nil {
		if charge != (Charge{}) {
			t.Fatalf("the error %v comes with %+v", err, charge)
		}
		checkFailure(t, play, sent, err)
		return
	}
	var intent believedIntent
	readable := json.Unmarshal(answer.body, &intent) == nil && !answer.cut
	ours := readable && answer.status == 200 && intent.ours()
	believed := readable
	switch charge.Status {
	case ChargeSucceeded:
		believed = ours && intent.paid(route == routeCreate) && charge.IntentID == intent.ID && charge.ChargeID == idIn(intent.Charge) &&
			(route == routeRead || route == routeCreate && answer.header.Get(stripeReplayHeader) == "")
	case ChargeProcessing:
		believed = ours && intent.Status == "processing" && charge.IntentID == intent.ID
	case ChargeDeclined:
		believed = ours && slices.Contains([]string{"requires_payment_method", "canceled"}, intent.Status) ||
			route == routeCreate && readable && play.refuses(sent) && charge.DeclineKind != ""
	case ChargeSuspect:
		believed = readable && charge.Reason != "" // a person looks at it; cut or broken answers are asked for again
	default:
		t.Fatalf("the status is %q", charge.Status)
	}
	if !believed {
		t.Fatalf("%+v after %v, by %d %q (cut %t)", charge, play.served, answer.status, answer.body, answer.cut)
	}
}

// refuses tells whether the answer to a charge says that the card was not
// charged, and won't be.
func (p *playedStripe) refuses(sent phases.Sent[ChargeForm]) bool {
	var body struct {
		Error struct {
			Type   string          `json:"type"`
			Code   string          `json:"code"`
			Intent *believedIntent `json:"payment_intent"`
		} `json:"error"`
	}
	answer := p.plays[routeCreate]
	if json.Unmarshal(answer.body, &body) != nil || answer.header.Get(stripeReplayHeader) == "true" {
		return false
	}
	if answer.status == 402 {
		intent := body.Error.Intent
		return body.Error.Type == "card_error" && (intent == nil || intent.ID == "" || intent.ours() && intent.Status == "requires_payment_method")
	}
	return (answer.status == 400 || answer.status == 404) && sent.First && body.Error.Type != idempotencyKind && slices.Contains(cardCodes(), body.Error.Code)
}

// checkFailure: an error is one of the known classes. It says "certainly not
// done" only of a refusal that Stripe gives before it does anything.
func checkFailure(t *testing.T, play *playedStripe, sent phases.Sent[ChargeForm], err error) {
	t.Helper()
	if errors.Is(err, phases.ErrNothingFound) {
		return
	}
	var failed *phases.CallError
	if !errors.As(err, &failed) {
		t.Fatalf("%v is no call error", err)
	}
	if failed.Backoff.Initial < 0 || failed.Backoff.Initial > failed.Backoff.Max || failed.Backoff.Max > maxRetryAfter {
		t.Fatalf("it asks to wait %+v", failed.Backoff)
	}
	answer := play.plays[routeCreate]
	switch failed.Class {
	case phases.Unknown:
	case phases.LookUp:
		if failed.Reason == "" || !slices.Contains(play.served, routeCreate) {
			t.Fatalf("%v for the reason %q after %v", err, failed.Reason, play.served)
		}
	case phases.Transient:
		if !slices.Equal(play.served, []string{routeCreate}) || answer.cut || !json.Valid(answer.body) || !slices.Contains([]int{400, 401, 403, 429}, answer.status) {
			t.Fatalf("%v after %v, by %d %q (first %t)", err, play.served, answer.status, answer.body, sent.First)
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
