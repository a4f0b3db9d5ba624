package rides

import (
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/web"
)

// paidAfterAll returns a ride of the account visa that a person ended as not
// charged, and that Stripe has charged since. Nobody knew the payment when the
// ride was declined.
func paidAfterAll(t *testing.T) (h *harness, seen int) {
	t.Helper()
	h = newHarness(t)
	h.parkUnknown(t, "k")
	if _, err := h.resolver().ResolveNotCharged(t.Context(), h.key(t, h.visa, "k"), "ann"); err != nil {
		t.Fatal(err)
	}
	h.rollForward(t)
	return h, 0
}

// TestALateRefundThatFailsIsShown: the money of a declined ride was on its way
// back, whether or not the ride knew its payment, and then it wasn't.
func TestALateRefundThatFailsIsShown(t *testing.T) {
	t.Parallel()
	h, seen := paidAfterAll(t)
	h.deliverAll(t, &seen, "thin")
	h.work(t)
	if got := h.given(t, "k"); got != "declined succeeded 2350" {
		t.Fatalf("the ride is %s", got)
	}
	if err := h.fake.ChangeRefund(h.fake.Refunds()[0].ID, "failed"); err != nil {
		t.Fatal(err)
	}
	h.deliverAll(t, &seen, "snapshot")
	registry := prometheus.NewRegistry()
	w := h.eventWorker()
	w.Metrics = registry
	h.workWith(t, w)
	h.settleDown(t)
	const want = "declined failed 2350; 402 ride.charged_late,ride.created,ride.refund_failed,ride.refunded_late"
	if got := h.state(t, "k"); got != want {
		t.Errorf("the ride is %s, want %s", got, want)
	}
	if n := value(t, registry, "rides_refunds_failed_total", ""); n != 1 {
		t.Errorf("a person was told %v times", n)
	}
	if n := len(h.fake.Refunds()); n != 1 {
		t.Errorf("%d refunds were made, want no other by itself", n)
	}
	h.hailAs(t, h.visa, "k").must(t, 402, web.CodePaymentFailed)
}

// TestALateRefundIsSentOnce: the events of a late success come again and again,
// in both shapes, while Stripe loses answers and workers work.
func TestALateRefundIsSentOnce(t *testing.T) {
	t.Parallel()
	h, seen := paidAfterAll(t)
	h.onRefund(fakestripe.DropBefore, nil)
	for _, e := range h.told(t, &seen) {
		for _, shape := range []string{"snapshot", "thin", "snapshot"} {
			h.deliver(t, e.ID, shape)
			h.work(t)
			h.workWith(t, h.startProcess(t, nil).eventWorker())
		}
	}
	h.settleDown(t)
	if got := h.given(t, "k"); got != "declined succeeded 2350" {
		t.Errorf("the ride is %s", got)
	}
	keys := map[string]bool{}
	for _, send := range h.fake.Ledger() {
		if send.Path == "/v1/refunds" {
			keys[send.Key] = true
		}
	}
	if len(keys) != 1 || len(h.fake.Refunds()) != 1 {
		t.Errorf("%d refunds were made under %d keys", len(h.fake.Refunds()), len(keys))
	}
	if n := number(t, h, `SELECT count(*) FROM audit_records WHERE action = 'ride.charged_late'`); n != 1 {
		t.Errorf("%d audit records", n)
	}
}

// TestALateRefundThatIsNotDoneAtOnceIsLogged: its event is worked all the same,
// so nothing else shows why the first attempt has failed.
func TestALateRefundThatIsNotDoneAtOnceIsLogged(t *testing.T) {
	t.Parallel()
	h, seen := paidAfterAll(t)
	h.onRefund(fakestripe.DropBefore, nil)
	h.deliverAll(t, &seen, "thin")
	var log strings.Builder
	w := h.eventWorker()
	w.Logger = slog.New(slog.NewTextHandler(&log, nil))
	h.workWith(t, w)
	line := regexp.MustCompile(`msg="a late refund is not done yet" .*payment_intent=` + h.intentOf(t, "k") + ` error=".*the connection ended`)
	if !line.MatchString(log.String()) || h.outcomes(t) != "late_success" {
		t.Errorf("the event came to %s, and the log says %s", h.outcomes(t), &log)
	}
}

// TestAPaymentOfAnotherAmountIsNotGivenBack: it names a ride that was declined,
// but isn't what that ride asked for, so a person looks at it.
func TestAPaymentOfAnotherAmountIsNotGivenBack(t *testing.T) {
	t.Parallel()
	h, seen := newHarness(t), 0
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	h.told(t, &seen)
	for _, c := range []struct{ amount, currency string }{{"1000", "usd"}, {"2350", "eur"}} {
		h.atStripe(t, "/v1/payment_intents", url.Values{
			"amount": {c.amount}, "currency": {c.currency}, "customer": {"cus_visa"}, "payment_method": {"pm_card_visa"},
			"confirm": {"true"}, "off_session": {"true"}, "payment_method_types[]": {"card"},
			"metadata[ride_id]": {rideID(h.declined.AccountID, "k")}, "metadata[account_id]": {h.declined.AccountID},
			"metadata[operation]": {operationOf(h.declined.AccountID, "k")},
		})
	}
	h.deliverAll(t, &seen, "thin")
	h.work(t)
	h.finish(t)
	if got := h.outcomes(t); got != "mismatch mismatch" || len(h.fake.Refunds()) != 0 {
		t.Errorf("the events came to %s, and Stripe has the refunds %+v", got, h.fake.Refunds())
	}
}

// TestAnEventOfTheLargestSize: 256 KiB are read, and not one byte more.
func TestAnEventOfTheLargestSize(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, more := range []int{1, 0} {
		body := `{"id":"evt_1","object":"event","type":"charge.refunded","data":{"object":{"id":"ch_1"}},"pad":""}`
		body = strings.Replace(body, `"pad":"`, `"pad":"`+strings.Repeat("x", payments.MaxEvent+more-len(body)), 1)
		status, code := 200, web.Code("")
		if more > 0 {
			status, code = 400, web.CodeSignatureInvalid
		}
		h.send(t, signed(body, eventSecret, time.Now())).must(t, status, code)
		if n := events(t, h); n != 1-more {
			t.Errorf("with %d bytes more %d events are stored", more, n)
		}
	}
}
