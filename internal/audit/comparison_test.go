package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"strconv"
	"testing"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// docs/operating.md tells how much memory an audit needs.
//
//nolint:paralleltest // it measures the whole heap
func TestTheComparisonIsSmall(t *testing.T) {
	const n, most = 200_000, 130 // bytes
	c := newComparison()
	began := heap()
	for i := range n {
		id := "3T" + strconv.Itoa(1e9+i) + "abcdefghijkl"
		digest := sha256.Sum256([]byte(id))
		intent := payments.Intent{
			ID: "pi_" + id, Charge: "ch_" + id, Account: "acct_1", Ride: "ride_" + id, Operation: hex.EncodeToString(digest[:]),
			Amount: 2350, Currency: "usd", Succeeded: true,
		}
		c.compareIntent(intent, ride{key: "k", status: "charged", intent: intent.ID, charge: intent.Charge, currency: "usd", amount: 2350}, true)
	}
	if each := (heap() - began) / n; each > most {
		t.Errorf("each payment intent takes %d bytes, want at most %d", each, most)
	} else {
		t.Logf("each payment intent takes %d bytes", each)
	}
	if len(c.chargedBy) != n || len(c.found) != 0 {
		t.Errorf("of %d intents %d are kept, with the findings %v", n, len(c.chargedBy), c.found)
	}
}

// heap returns the bytes of the heap that are in use.
func heap() uint64 {
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	return memory.HeapAlloc
}

// Stripe refuses to give back more than was paid, so no whole system shows this.
func TestMoreThanWasPaidIsFound(t *testing.T) {
	t.Parallel()
	c := newComparison()
	r := ride{status: "canceled", refund: payments.GivenFailed, intent: "pi_1", charge: "ch_1", amount: 100}
	c.compareIntent(payments.Intent{ID: "pi_1", Charge: "ch_1", Operation: "hail", Amount: 100, Succeeded: true}, r, true)
	c.compareIntent(payments.Intent{ID: "pi_neighbour", Amount: 100, Succeeded: true}, ride{}, false)
	for i, refund := range []payments.RefundSeen{
		{IntentID: "pi_1", Amount: 40},
		{IntentID: "pi_1", Amount: 60},
		{IntentID: "pi_neighbour", Amount: 400},
		{IntentID: "pi_too_old_to_be_listed", Amount: 400},
		{IntentID: "pi_1", Amount: 7, Operation: "cancel"},
	} {
		if found := c.found[refundedOnce]; len(found) != 0 {
			t.Fatalf("after %d refunds it finds %v", i, found)
		}
		refund.ID = fmt.Sprintf("re_%d", i)
		c.compareRefund(refund)
	}
	want := Finding{Check: refundedOnce, Detail: "7 more than pi_1 took were given back"}
	if found := c.found[refundedOnce]; len(found) != 1 || found[0] != want || len(c.found) != 1 {
		t.Errorf("it finds %v, want %v", c.found, want)
	}
}
