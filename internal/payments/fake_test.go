package payments

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// A fakeStripe is a fake Stripe behind a real HTTP server, and a client of it.
// It has state: the effects of one send are there for the next.
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
	config := Config{Key: testKey, URL: web.URL, Timeout: 5 * time.Second, Saved500After: time.Hour, RefusedPause: time.Millisecond}
	if change != nil {
		change(&config)
	}
	client, err := NewStripe(config)
	if err != nil {
		t.Fatalf("making the client: %v", err)
	}
	return fakeStripe{fake, client, web.URL}
}

// fakeSent returns the first send of a charge of the fake's customer, with the
// given payment method.
func fakeSent(paymentMethod string) phases.Sent[ChargeForm] {
	return fakeSentFor("cus_visa", paymentMethod)
}

func fakeSentFor(customer, paymentMethod string) phases.Sent[ChargeForm] {
	terms := testTerms()
	terms.Customer, terms.PaymentMethod = customer, paymentMethod
	return phases.Sent[ChargeForm]{Key: terms.Operation, Form: NewChargeForm(terms), First: true, FirstSentAt: time.Now()}
}

// mustCharge sends, and fails the test unless the result has the status.
func (f fakeStripe) mustCharge(t *testing.T, sent phases.Sent[ChargeForm], want ChargeStatus) Charge {
	t.Helper()
	charge, err := f.Charge(t.Context(), sent)
	return wantStatus(t, charge, err, want)
}

// mustFind looks the charge up, and fails the test unless the result has the
// status.
func (f fakeStripe) mustFind(t *testing.T, sent phases.Sent[ChargeForm], want ChargeStatus) Charge {
	t.Helper()
	charge, err := f.FindCharge(t.Context(), sent, customers())
	return wantStatus(t, charge, err, want)
}

func wantStatus(t *testing.T, charge Charge, err error, want ChargeStatus) Charge {
	t.Helper()
	if err != nil || charge.Status != want {
		t.Fatalf("got %+v, %v, want it %s", charge, err, want)
	}
	return charge
}

// mustFail sends, and fails the test unless the result is an error of the
// class.
func (f fakeStripe) mustFail(t *testing.T, sent phases.Sent[ChargeForm], want phases.Class) phases.CallError {
	t.Helper()
	charge, err := f.Charge(t.Context(), sent)
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != want {
		t.Fatalf("got %+v, %v, want it %s", charge, err, want)
	}
	return *failed
}

// wantCharges fails the test unless the ride has n charges.
func (f fakeStripe) wantCharges(t *testing.T, n int) {
	t.Helper()
	wantEqual(t, "charges of the ride", n, f.Charges()[testTerms().RideID])
}

func TestFakeChargesOnceAfterAnyFault(t *testing.T) {
	t.Parallel()
	const slow = time.Second
	for name, c := range map[string]struct {
		fault fakestripe.Fault
		class phases.Class
	}{
		"dropped before it acts": {fakestripe.Fault{Kind: fakestripe.DropBefore}, phases.Unknown},
		"dropped after it acted": {fakestripe.Fault{Kind: fakestripe.DropAfter}, phases.Unknown},
		"a truncated answer":     {fakestripe.Fault{Kind: fakestripe.Truncated200}, phases.Unknown},
		"an empty 200":           {fakestripe.Fault{Kind: fakestripe.Empty200}, phases.Unknown},
		"a slow drip":            {fakestripe.Fault{Kind: fakestripe.SlowDrip, Over: fakestripe.Duration(time.Minute)}, phases.Unknown},
		"an unsaved 500":         {fakestripe.Fault{Kind: fakestripe.Unsaved500}, phases.Unknown},
		"a 502":                  {fakestripe.Fault{Kind: fakestripe.BadGateway502}, phases.Unknown},
		"a 503":                  {fakestripe.Fault{Kind: fakestripe.Unavailable503}, phases.Unknown},
		"a key in use":           {fakestripe.Fault{Kind: fakestripe.InUse409}, phases.Unknown},
		"a lock time-out":        {fakestripe.Fault{Kind: fakestripe.LockTimeout, Status: 409}, phases.Unknown},
		"a rate limit":           {fakestripe.Fault{Kind: fakestripe.RateLimited429, RetryAfter: fakestripe.Duration(6 * time.Hour)}, phases.Transient},
		"a refused key":          {fakestripe.Fault{Kind: fakestripe.Unauthorized401}, phases.Transient},
		"a missing permission":   {fakestripe.Fault{Kind: fakestripe.Forbidden403}, phases.Transient},
		"no answer in time":      {fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: fakestripe.Duration(slow * 5)}, LatencyAt: "after"}, phases.Unknown},
		"no effect in time":      {fakestripe.Fault{Kind: fakestripe.Delayed, Latency: fakestripe.Latency{Fixed: fakestripe.Duration(slow * 5)}}, phases.Unknown},
		"no fault":               {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, func(config *Config) { config.Timeout = 2 * slow })
			sent := fakeSent("pm_visa")
			if c.fault.Kind != "" {
				f.Script(c.fault)
				f.mustFail(t, sent, c.class)
			}
			sent.First = c.class == phases.Transient
			eventually(t, "the charge", func() bool {
				charge, err := f.Charge(t.Context(), sent)
				return err == nil && charge.Status == ChargeSucceeded
			})
			f.wantCharges(t, 1)
			for _, send := range f.Ledger() {
				wantEqual(t, "body", string(sent.Form), send.Body)
				wantEqual(t, "key", sent.Key, send.Key)
			}
		})
	}
}

func TestFakeDeclineIsFinal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ card, kind, code string }{
		"a declined card":         {"pm_card_chargeCustomerFail", "card_declined", "generic_decline"},
		"an expired card":         {"pm_card_chargeDeclinedExpiredCard", "card_declined", "expired_card"},
		"authentication required": {"pm_card_authenticationRequired", "authentication_required", "authentication_required"},
		"a card that works later": {"pm_fake_tryAgainLater", "card_declined", "try_again_later"},
		"insufficient funds":      {"pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"},
		"an error of the bank":    {"pm_card_chargeDeclinedProcessingError", "card_declined", "processing_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			first := f.mustCharge(t, fakeSent(c.card), ChargeDeclined)
			wantEqual(t, "kind", c.kind, first.DeclineKind)
			wantEqual(t, "code", c.code, first.DeclineCode)
			wantEqual(t, "soft", c.code == "try_again_later" || c.code == "processing_error", first.RetryWithNewKey)
			again := f.mustCharge(t, fakeSent(c.card), ChargeDeclined) // a replay, which is judged by the intent
			first.Detail, again.Detail = "", ""
			wantEqual(t, "replay", first, again)
			f.wantCharges(t, 0)
		})
	}
}

func TestFakeReplayIsJudgedByTheCurrentState(t *testing.T) {
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
			f.mustFail(t, sent, phases.Unknown)
			c.change(t, f, f.PaymentIntents()[0].ID)
			wantEqual(t, "reason", c.reason, f.mustCharge(t, sent, c.status).Reason)
			sent.First = false
			wantEqual(t, "reason", c.reason, f.mustFind(t, sent, c.status).Reason)
		})
	}
}

func refundAtFake(t *testing.T, f fakeStripe, intent string) {
	t.Helper()
	f.post(t, "/v1/refunds", url.Values{"payment_intent": {intent}}.Encode())
}

func disputeAtFake(t *testing.T, f fakeStripe, intent string) {
	t.Helper()
	if err := f.Dispute(intent, ""); err != nil {
		t.Fatalf("disputing: %v", err)
	}
}
