package payments

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// These tests charge at a Stripe that remembers: what one send did, the next
// one meets.

// A fakeStripe is a fake Stripe behind a real server, and a client of it.
type fakeStripe struct {
	*fakestripe.Server
	*Stripe

	url string
}

func openFake(t *testing.T, change func(*Config)) fakeStripe {
	t.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		t.Fatalf("opening the fake Stripe: %v", err)
	}
	web := httptest.NewServer(fake)
	t.Cleanup(func() {
		if err := fake.Close(); err != nil {
			t.Errorf("closing the fake Stripe: %v", err)
		}
		web.Close()
	})
	config := Config{Key: stageKey, URL: web.URL, Timeout: 5 * time.Second, Saved500After: time.Hour, RefusedPause: time.Millisecond}
	if change != nil {
		change(&config)
	}
	client, err := NewStripe(config)
	if err != nil {
		t.Fatalf("making the client: %v", err)
	}
	return fakeStripe{fake, client, web.URL}
}

// fakeSent is the first send of a charge of the fake's customer with the given
// card.
func fakeSent(paymentMethod string) phases.Sent[ChargeForm] {
	terms := stageTerms()
	terms.Customer, terms.PaymentMethod = "cus_visa", paymentMethod
	return phases.Sent[ChargeForm]{Key: terms.Operation, Form: NewChargeForm(terms), First: true, FirstSentAt: time.Now()}
}

// charges sends, and wants a charge in the given status.
func (f fakeStripe) charges(t *testing.T, sent phases.Sent[ChargeForm], want ChargeStatus) Charge {
	t.Helper()
	charge, err := f.Charge(t.Context(), sent)
	return wantStatus(t, charge, err, want)
}

// finds looks, and wants a charge in the given status.
func (f fakeStripe) finds(t *testing.T, sent phases.Sent[ChargeForm], want ChargeStatus) Charge {
	t.Helper()
	charge, err := f.FindCharge(t.Context(), sent)
	return wantStatus(t, charge, err, want)
}

func wantStatus(t *testing.T, charge Charge, err error, want ChargeStatus) Charge {
	t.Helper()
	if err != nil || charge.Status != want {
		t.Fatalf("got %+v, %v, want it %s", charge, err, want)
	}
	return charge
}

// fails sends, and wants an error of the given class.
func (f fakeStripe) fails(t *testing.T, sent phases.Sent[ChargeForm], want phases.Class) phases.CallError {
	t.Helper()
	charge, err := f.Charge(t.Context(), sent)
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != want {
		t.Fatalf("got %+v, %v, want it %s", charge, err, want)
	}
	return *failed
}

// charged wants exactly n charges of the ride.
func (f fakeStripe) charged(t *testing.T, n int) {
	t.Helper()
	wantEqual(t, "charges of the ride", n, f.Charges()[stageTerms().RideID])
}

func TestStripeFakeChargesOnceWhateverBreaks(t *testing.T) {
	t.Parallel()
	const slow = time.Second
	for name, c := range map[string]struct {
		fault fakestripe.Fault
		class phases.Class
	}{
		"dropped before":     {fakestripe.Fault{Kind: fakestripe.DropBefore}, phases.Unknown},
		"dropped after":      {fakestripe.Fault{Kind: fakestripe.DropAfter}, phases.Unknown},
		"truncated":          {fakestripe.Fault{Kind: fakestripe.Truncated200}, phases.Unknown},
		"an empty 200":       {fakestripe.Fault{Kind: fakestripe.Empty200}, phases.Unknown},
		"a slow drip":        {fakestripe.Fault{Kind: fakestripe.SlowDrip, Over: time.Minute}, phases.Unknown},
		"an unsaved 500":     {fakestripe.Fault{Kind: fakestripe.Unsaved500}, phases.Unknown},
		"a 502":              {fakestripe.Fault{Kind: fakestripe.BadGateway502}, phases.Unknown},
		"a 503":              {fakestripe.Fault{Kind: fakestripe.Unavailable503}, phases.Unknown},
		"a key in use":       {fakestripe.Fault{Kind: fakestripe.InUse409}, phases.Unknown},
		"a lock time-out":    {fakestripe.Fault{Kind: fakestripe.LockTimeout, Status: 409}, phases.Unknown},
		"a rate limit":       {fakestripe.Fault{Kind: fakestripe.RateLimited429, RetryAfter: 6 * time.Hour}, phases.Transient},
		"a refused key":      {fakestripe.Fault{Kind: fakestripe.Unauthorized401}, phases.Transient},
		"a lacking right":    {fakestripe.Fault{Kind: fakestripe.Forbidden403}, phases.Transient},
		"no answer in time":  {fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: slow * 5}, LatencyAt: "after"}, phases.Unknown},
		"no action in time":  {fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: slow * 5}}, phases.Unknown},
		"nothing in the way": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, func(config *Config) { config.Timeout = 2 * slow })
			sent := fakeSent("pm_visa")
			if c.fault.Kind != "" {
				f.Script(c.fault)
				f.fails(t, sent, c.class)
			}
			sent.First = c.class == phases.Transient
			eventually(t, "the charge", func() bool {
				charge, err := f.Charge(t.Context(), sent)
				return err == nil && charge.Status == ChargeSucceeded
			})
			f.charged(t, 1)
			for _, send := range f.Ledger() {
				wantEqual(t, "body", string(sent.Form), send.Body)
				wantEqual(t, "key", sent.Key, send.Key)
			}
		})
	}
}

func TestStripeFakeDeclinesForGood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ card, kind, code string }{
		"a declined card":      {"pm_card_chargeCustomerFail", "card_declined", "generic_decline"},
		"an expired card":      {"pm_card_chargeDeclinedExpiredCard", "card_declined", "expired_card"},
		"an authentication":    {"pm_card_authenticationRequired", "authentication_required", "authentication_required"},
		"a card for later":     {"pm_fake_tryAgainLater", "card_declined", "try_again_later"},
		"insufficient funds":   {"pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"},
		"an error in the bank": {"pm_card_chargeDeclinedProcessingError", "card_declined", "processing_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			first := f.charges(t, fakeSent(c.card), ChargeDeclined)
			wantEqual(t, "kind", c.kind, first.DeclineKind)
			wantEqual(t, "code", c.code, first.DeclineCode)
			wantEqual(t, "soft", c.code == "try_again_later" || c.code == "processing_error", first.RetryWithNewKey)
			again := f.charges(t, fakeSent(c.card), ChargeDeclined) // a replay, judged by the intent
			first.Detail, first.RequestID, again.Detail, again.RequestID = "", "", "", ""
			wantEqual(t, "replay", first, again)
			f.charged(t, 0)
		})
	}
}

func TestStripeFakeReplayShowsWhatBecameOfTheCharge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, f fakeStripe, intent string)
		status ChargeStatus
		reason string
	}{
		"nothing":   {func(*testing.T, fakeStripe, string) {}, ChargeSucceeded, ""},
		"a refund":  {refundAtFake, ChargeSuspect, "stripe_refunded"},
		"a dispute": {disputeAtFake, ChargeSuspect, "stripe_refunded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			sent := fakeSent("pm_visa")
			f.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
			f.fails(t, sent, phases.Unknown)
			c.change(t, f, f.PaymentIntents()[0].ID)
			wantEqual(t, "reason", c.reason, f.charges(t, sent, c.status).Reason)
			sent.First = false
			wantEqual(t, "reason", c.reason, f.finds(t, sent, c.status).Reason)
		})
	}
}

func refundAtFake(t *testing.T, f fakeStripe, intent string) {
	t.Helper()
	form := url.Values{"payment_intent": {intent}}.Encode()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/v1/refunds", strings.NewReader(form))
	if err != nil {
		t.Fatalf("making the refund: %v", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+stageKey)
	answer, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatalf("refunding: %v", err)
	}
	defer func() { _ = answer.Body.Close() }()
	wantEqual(t, "status of the refund", http.StatusOK, answer.StatusCode)
}

func disputeAtFake(t *testing.T, f fakeStripe, intent string) {
	t.Helper()
	if err := f.Dispute(intent); err != nil {
		t.Fatalf("disputing: %v", err)
	}
}

func TestStripeFakeProcessingIsReadUntilItEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settle func(f fakeStripe, intent string) error
		end    ChargeStatus
	}{
		"well":  {func(f fakeStripe, intent string) error { return f.Settle(intent) }, ChargeSucceeded},
		"badly": {func(f fakeStripe, intent string) error { return f.Decline(intent, "insufficient_funds") }, ChargeDeclined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			sent := fakeSent("pm_fake_processing")
			sent.Ref = f.charges(t, sent, ChargeProcessing).IntentID
			f.finds(t, sent, ChargeProcessing)
			if err := c.settle(f, sent.Ref); err != nil {
				t.Fatalf("settling: %v", err)
			}
			f.finds(t, sent, c.end)
			sent.Ref = ""
			f.charges(t, sent, c.end) // the replay still says "processing"
		})
	}
}

func TestStripeFakeSaved500IsLookedUp(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_visa")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: 5 * time.Minute})
	f.fails(t, sent, phases.Unknown) // the first 500 doesn't say that it is saved
	sent.First = false
	failed := f.fails(t, sent, phases.LookUp)
	wantEqual(t, "reason", "stripe_500", failed.Reason)
	wantEqual(t, "patience", time.Hour, failed.Patience)
	if charge, err := f.FindCharge(t.Context(), sent); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v, want nothing found", charge, err)
	}
	if err := f.Advance(10 * time.Minute); err != nil {
		t.Fatalf("advancing the clock: %v", err)
	}
	found := f.finds(t, sent, ChargeSucceeded)
	f.charged(t, 1)
	wantStatus(t, mustVerify(t, f, sent.Form, found.IntentID), nil, ChargeSucceeded)
	var possible *ChargePossibleError
	if err := f.VerifyNotCharged(t.Context(), sent.Form, sent.FirstSentAt); !errors.As(err, &possible) {
		t.Errorf("got %v, want the intent that charged", err)
	}
}

func mustVerify(t *testing.T, f fakeStripe, form ChargeForm, id string) Charge {
	t.Helper()
	charge, err := f.VerifyCharged(t.Context(), form, id)
	if err != nil {
		t.Fatalf("verifying: %v", err)
	}
	return charge
}

func TestStripeFakeFailedIntentIsCanceledWhenTheWindowIsOver(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_card_chargeCustomerFail")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
	f.fails(t, sent, phases.Unknown)
	if charge, err := f.FindCharge(t.Context(), sent); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v inside the window, want nothing found", charge, err)
	}
	sent.WindowOver = true
	f.finds(t, sent, ChargeDeclined)
	f.finds(t, sent, ChargeDeclined) // an attempt that died here finds it canceled
	if err := f.VerifyNotCharged(t.Context(), sent.Form, sent.FirstSentAt); err != nil {
		t.Errorf("it is canceled, and yet: %v", err)
	}
	f.charged(t, 0)
}

func TestStripeFakeOtherParametersUnderTheKeyAreLookedUp(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.charges(t, fakeSent("pm_visa"), ChargeSucceeded)
	changed := fakeSent("pm_card_visa") // as if the card had not been frozen
	wantEqual(t, "reason", "stripe_idempotency_error", f.fails(t, changed, phases.LookUp).Reason)
	f.finds(t, changed, ChargeSucceeded)
	f.charged(t, 1)
}

func TestStripeFakeConcurrentSendsChargeOnce(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	release := make(chan struct{})
	f.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: release})
	var first sync.WaitGroup
	first.Go(func() {
		if charge, err := f.Charge(t.Context(), fakeSent("pm_visa")); err != nil || charge.Status != ChargeSucceeded {
			t.Errorf("the first send: %+v, %v", charge, err)
		}
	})
	if err := f.WaitSends(t.Context(), 1, func(fakestripe.Send) bool { return true }); err != nil {
		t.Fatalf("waiting for the first send: %v", err)
	}
	failed := f.fails(t, fakeSent("pm_visa"), phases.Unknown)
	wantEqual(t, "back-off", phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}, failed.Backoff)
	close(release)
	first.Wait()
	f.charges(t, fakeSent("pm_visa"), ChargeSucceeded)
	f.charged(t, 1)
}

func TestStripeFakeAnswerAboutAnotherObjectIsSuspect(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.Script(fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
	wantEqual(t, "reason", "stripe_mismatch", f.charges(t, fakeSent("pm_visa"), ChargeSuspect).Reason)
}

func TestStripeFakeRefusedRequestIsSuspectAtFirst(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_none")
	wantEqual(t, "reason", "stripe_400", f.charges(t, sent, ChargeSuspect).Reason)
	sent.First = false
	wantEqual(t, "reason", "stripe_400", f.fails(t, sent, phases.LookUp).Reason)
	if charge, err := f.FindCharge(t.Context(), sent); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v, want nothing found", charge, err)
	}
}

func TestStripeFakeListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.charges(t, fakeSent("pm_visa"), ChargeSucceeded)
	for i := range 150 { // newer ones come first, so ours is on the second page
		terms := stageTerms()
		terms.Customer, terms.PaymentMethod, terms.RideID = "cus_visa", "pm_visa", "ride_2"
		terms.Operation = phases.ForeignKey("hail", "charge_created", "acct_1", strconv.Itoa(i))
		f.charges(t, phases.Sent[ChargeForm]{Key: terms.Operation, Form: NewChargeForm(terms), First: true}, ChargeSucceeded)
	}
	f.finds(t, fakeSent("pm_visa"), ChargeSucceeded)
}
