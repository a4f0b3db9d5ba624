package payments

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestFakeProcessingChargeIsReadUntilItEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settle func(f fakeStripe, intent string) error
		end    ChargeStatus
	}{
		"charged":  {func(f fakeStripe, intent string) error { return f.Settle(intent) }, ChargeSucceeded},
		"declined": {func(f fakeStripe, intent string) error { return f.Decline(intent, "insufficient_funds") }, ChargeDeclined},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t, nil)
			sent := fakeSent("pm_fake_processing")
			sent.Ref = f.mustCharge(t, sent, ChargeProcessing).IntentID
			f.mustFind(t, sent, ChargeProcessing)
			if err := c.settle(f, sent.Ref); err != nil {
				t.Fatalf("settling: %v", err)
			}
			f.mustFind(t, sent, c.end)
			sent.Ref = ""
			f.mustCharge(t, sent, c.end) // the replay still says "processing"
		})
	}
}

func TestFakeSaved500IsLookedUp(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_visa")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(5 * time.Minute)})
	f.mustFail(t, sent, phases.Unknown) // nothing in the first 500 says that it is saved
	sent.First = false
	failed := f.mustFail(t, sent, phases.LookUp)
	wantEqual(t, "reason", "stripe_500", failed.Reason)
	wantEqual(t, "patience", time.Hour, failed.Patience)
	if charge, err := f.FindCharge(t.Context(), sent, customers()); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v, want nothing found", charge, err)
	}
	if err := f.Advance(10 * time.Minute); err != nil {
		t.Fatalf("advancing the clock: %v", err)
	}
	found := f.mustFind(t, sent, ChargeSucceeded)
	f.wantCharges(t, 1)
	wantStatus(t, mustVerify(t, f, sent, found.IntentID), nil, ChargeSucceeded)
	var possible *ChargePossibleError
	if err := f.VerifyNotCharged(t.Context(), sent.Key, sent.Form, sent.FirstSentAt, nil); !errors.As(err, &possible) {
		t.Errorf("got %v, want the intent that charged", err)
	}
}

func mustVerify(t *testing.T, f fakeStripe, sent phases.Sent[ChargeForm], id string) Charge {
	t.Helper()
	charge, err := f.VerifyCharged(t.Context(), sent.Key, sent.Form, id)
	if err != nil {
		t.Fatalf("verifying: %v", err)
	}
	return charge
}

func TestFakeFailedIntentIsCanceledAfterTheWindow(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_card_chargeCustomerFail")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
	f.mustFail(t, sent, phases.Unknown)
	if charge, err := f.FindCharge(t.Context(), sent, customers()); !errors.Is(err, phases.ErrNothingFound) {
		t.Fatalf("got %+v, %v inside the window, want nothing found", charge, err)
	}
	sent.WindowOver = true
	f.mustFind(t, sent, ChargeDeclined)
	f.mustFind(t, sent, ChargeDeclined) // an attempt after one that died here finds it canceled
	if err := f.VerifyNotCharged(t.Context(), sent.Key, sent.Form, sent.FirstSentAt, nil); err != nil {
		t.Errorf("the intent is canceled, but got: %v", err)
	}
	f.wantCharges(t, 0)
}

func TestFakeOtherParametersUnderTheKeyAreLookedUp(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.mustCharge(t, fakeSent("pm_visa"), ChargeSucceeded)
	changed := fakeSent("pm_card_visa") // as if the payment method had not been frozen
	wantEqual(t, "reason", "stripe_idempotency_error", f.mustFail(t, changed, phases.LookUp).Reason)
	f.mustFind(t, changed, ChargeSucceeded)
	f.wantCharges(t, 1)
}

func TestFakeConcurrentSendsChargeOnce(t *testing.T) {
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
	failed := f.mustFail(t, fakeSent("pm_visa"), phases.Unknown)
	wantEqual(t, "back-off", phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}, failed.Backoff)
	close(release)
	first.Wait()
	f.mustCharge(t, fakeSent("pm_visa"), ChargeSucceeded)
	f.wantCharges(t, 1)
}

func TestFakeAnswerAboutAnotherObjectIsSuspect(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.Script(fakestripe.Fault{Kind: fakestripe.OtherObject, Set: map[string]any{"amount": 1}})
	wantEqual(t, "reason", "stripe_mismatch", f.mustCharge(t, fakeSent("pm_visa"), ChargeSuspect).Reason)
}

// A key's row was lost in a fail-over after it had charged. Weeks later a retry
// makes it again, for a customer and a card that the account has got meanwhile.
func TestFakeChargeOfAnEarlierLifeIsFound(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.mustCharge(t, fakeSentFor("cus_second", "pm_second"), ChargeSucceeded)
	again, former := fakeSent("pm_visa"), []string{"cus_second"}
	wantEqual(t, "reason", "stripe_idempotency_error", f.mustFail(t, again, phases.LookUp).Reason)
	again.First = false
	for days, found := range map[int]bool{0: true, 29: true, 31: false} {
		sent := again
		sent.FirstSentAt = time.Now().Add(time.Duration(days) * 24 * time.Hour)
		charge, err := f.FindCharge(t.Context(), sent, customers(former...))
		if found {
			wantEqual(t, "reason", "stripe_mismatch", wantStatus(t, charge, err, ChargeSuspect).Reason)
		} else if !errors.Is(err, phases.ErrNothingFound) {
			t.Errorf("after %d days got %+v, %v", days, charge, err)
		}
		_, possible := errors.AsType[*ChargePossibleError](f.VerifyNotCharged(t.Context(), sent.Key, sent.Form, sent.FirstSentAt, former))
		wantEqual(t, "a charge is possible", found, possible)
	}
	if err := f.VerifyNotCharged(t.Context(), again.Key, again.Form, time.Time{}, nil); err != nil {
		t.Errorf("without the former customer got %v, so the test shows nothing", err)
	}
	// What a deleted customer paid isn't listed any more, and is still there.
	if err := f.DeleteCustomer("cus_second"); err != nil {
		t.Fatal(err)
	}
	if _, possible := errors.AsType[*ChargePossibleError](f.VerifyNotCharged(t.Context(), again.Key, again.Form, time.Time{}, former)); !possible {
		t.Error("the deleted customer's charge isn't seen")
	}
	never := fakeSentFor("cus_nope", "pm_visa")
	if err := f.VerifyNotCharged(t.Context(), never.Key, never.Form, time.Time{}, nil); err != nil {
		t.Errorf("of a customer that never was got %v", err)
	}
	if _, possible := errors.AsType[*ChargePossibleError](f.VerifyNotCharged(t.Context(), never.Key, never.Form, time.Time{}, former)); !possible {
		t.Error("the former customer's charge isn't seen, because the present customer isn't there")
	}
}

func TestFakeListIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	f.mustCharge(t, fakeSent("pm_visa"), ChargeSucceeded)
	for i := range 150 { // newer ones come first, so ours is on the second page
		terms := testTerms()
		terms.Customer, terms.PaymentMethod, terms.RideID = "cus_visa", "pm_visa", "ride_2"
		terms.Operation = phases.ForeignKey("hail", "charge_created", "acct_1", strconv.Itoa(i))
		f.mustCharge(t, phases.Sent[ChargeForm]{Key: terms.Operation, Form: NewChargeForm(terms), First: true}, ChargeSucceeded)
	}
	f.mustFind(t, fakeSent("pm_visa"), ChargeSucceeded)
}

// Stripe saves that it failed to cancel, and repeats that under the same key.
func TestFakeIntentIsCanceledAfterASaved500(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	sent := fakeSent("pm_card_chargeCustomerFail")
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithEffect})
	f.mustFail(t, sent, phases.Unknown)
	sent.WindowOver = true
	f.Script(fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, Match: fakestripe.Match{PathPrefix: "/v1/payment_intents/"}})
	if charge, err := f.FindCharge(t.Context(), sent, customers()); err == nil {
		t.Fatalf("got %+v, want the 500", charge)
	}
	f.mustFind(t, sent, ChargeDeclined)
	wantEqual(t, "status", "canceled", f.PaymentIntents()[0].Status)
}
