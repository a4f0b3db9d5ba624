package payments

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// chargedFake returns a fake with a charge, and the refund of it.
func chargedFake(t *testing.T) (fakeStripe, phases.Sent[RefundForm]) {
	t.Helper()
	f := openFake(t, nil)
	charge := f.mustCharge(t, fakeSent("pm_visa"), ChargeSucceeded)
	sent := firstRefund()
	terms := sent.Form.Terms()
	terms.IntentID = charge.IntentID
	sent.Form, sent.FirstSentAt = NewRefundForm(terms), time.Now()
	return f, sent
}

// mustGive runs Refund or FindRefund, and fails the test unless the result is
// want and shows the status.
func mustGive(
	t *testing.T, run func(context.Context, phases.Sent[RefundForm], Paid) (Refund, error), sent phases.Sent[RefundForm],
	want RefundResult, status string,
) Refund {
	t.Helper()
	refund, err := run(t.Context(), sent, testPaid())
	if err != nil || refund.Result != want || refund.Given.Status != status {
		t.Fatalf("got %+v, %v, want it %s and %s", refund, err, want, status)
	}
	return refund
}

func TestFakeRefundsOnceAfterAnyFault(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fakestripe.Fault{
		"dropped before it acts": {Kind: fakestripe.DropBefore},
		"dropped after it acted": {Kind: fakestripe.DropAfter},
		"a truncated answer":     {Kind: fakestripe.Truncated200},
		"an empty 200":           {Kind: fakestripe.Empty200},
		"an unsaved 500":         {Kind: fakestripe.Unsaved500},
		"a 502":                  {Kind: fakestripe.BadGateway502},
		"a 503":                  {Kind: fakestripe.Unavailable503},
		"a key in use":           {Kind: fakestripe.InUse409},
		"a lock time-out":        {Kind: fakestripe.LockTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, sent := chargedFake(t)
			fault.Match.Path = refundsPath
			f.Script(fault)
			refund, err := f.Refund(t.Context(), sent, testPaid())
			var failed *phases.CallError
			if !errors.As(err, &failed) || failed.Class != phases.Unknown {
				t.Fatalf("got %+v, %v, want an unknown result", refund, err)
			}
			sent.First = false
			again := mustGive(t, f.Refund, sent, RefundDone, GivenSucceeded)
			mustGive(t, f.FindRefund, sent, RefundDone, GivenSucceeded)
			if all := f.Refunds(); len(all) != 1 || all[0].Amount != 2350 || all[0].ID != again.Given.ID {
				t.Errorf("Stripe has %+v", all)
			}
		})
	}
}

// Stripe forgets the key after a day, and a refund under it would be a new one.
func TestFakeRefundIsAdoptedWhenTheKeyIsForgotten(t *testing.T) {
	t.Parallel()
	f, sent := chargedFake(t)
	first := mustGive(t, f.Refund, sent, RefundDone, GivenSucceeded)
	if err := f.Advance(25 * time.Hour); err != nil {
		t.Fatal(err)
	}
	sent.First = false
	wantEqual(t, "refund", first.Given, mustGive(t, f.Refund, sent, RefundDone, GivenSucceeded).Given)
	wantEqual(t, "refunds", 1, len(f.Refunds()))
}

func TestFakePendingRefundEndsEitherWay(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]RefundResult{
		"succeeded": RefundDone, "failed": RefundRefused, "canceled": RefundRefused, "requires_action": RefundOpen,
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			f, sent := chargedFake(t)
			f.Script(fakestripe.Fault{Kind: fakestripe.RefundOutcome, Refund: "pending"})
			open := mustGive(t, f.Refund, sent, RefundOpen, GivenPending)
			sent.Ref = open.Given.ID
			mustGive(t, f.FindRefund, sent, RefundOpen, GivenPending)
			if err := f.ChangeRefund(open.Given.ID, status); err != nil {
				t.Fatal(err)
			}
			shown := map[RefundResult]string{RefundDone: GivenSucceeded, RefundRefused: GivenFailed, RefundOpen: GivenPending}[want]
			mustGive(t, f.FindRefund, sent, want, shown)
		})
	}
}

func TestFakeDashboardRefundsAreAdopted(t *testing.T) {
	t.Parallel()
	f, sent := chargedFake(t)
	intent := sent.Form.Terms().IntentID
	if _, err := f.DashboardRefund(intent, 500); err != nil {
		t.Fatal(err)
	}
	given, _, err := f.RefundsOf(t.Context(), intent, testPaid())
	if err != nil || given.Status != GivenSucceeded || given.Amount != 500 {
		t.Errorf("the dashboard gave %+v, %v", given, err)
	}
	rest := mustGive(t, f.Refund, sent, RefundDone, GivenSucceeded)
	wantEqual(t, "amount", int64(2350), rest.Given.Amount)
	other, sent := chargedFake(t)
	id, err := other.DashboardRefund(sent.Form.Terms().IntentID, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "refund", id, mustGive(t, other.Refund, sent, RefundDone, GivenSucceeded).Given.ID)
}

func TestFakeDisputeRefusesTheRefund(t *testing.T) {
	t.Parallel()
	f, sent := chargedFake(t)
	intent := sent.Form.Terms().IntentID
	disputeAtFake(t, f, intent)
	refused := mustGive(t, f.Refund, sent, RefundRefused, "")
	wantEqual(t, "disputed", true, refused.Disputed)
	dispute, err := f.DisputeOf(t.Context(), intent)
	wantEqual(t, "dispute", Dispute{Open: true, Refuses: true}, dispute)
	if err != nil {
		t.Error(err)
	}
	if err := f.Dispute(intent, "warning_needs_response"); err != nil {
		t.Fatal(err)
	}
	mustGive(t, f.Refund, sent, RefundDone, GivenSucceeded)
}
