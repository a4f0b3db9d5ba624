package payments

import (
	"errors"
	"net/http"
	"testing"
)

func TestVerifyRefundedRefusesAnInvalidID(t *testing.T) {
	t.Parallel()
	client, _ := newStripeServer(t, nil).client(t, nil)
	for _, id := range []string{"", "ch_1", "pi_1", "re_1?x", "re_1\n"} {
		if refund, err := client.VerifyRefunded(t.Context(), firstRefund().Key, firstRefund().Form, testPaid(), id); err == nil {
			t.Errorf("%q is accepted as an id: %+v", id, refund)
		}
	}
}

func TestVerifyRefunds(t *testing.T) {
	t.Parallel()
	status := func(status string) object { return refundWith(object{"status": status}) }
	part := refundWith(object{"amount": 1850})
	for name, c := range map[string]struct {
		list     http.HandlerFunc
		refunded string // the error of VerifyRefunded; empty: re_1 settled it
		possible string // the refund that VerifyNotRefunded names; empty: none
		unseen   bool
	}{
		"all was refunded":                {list: answerPage(false, refundWith(nil)), possible: "re_1"},
		"the rest was refunded elsewhere": {list: answerPage(false, part, dashboardRefund("re_2", 500, "succeeded")), possible: "re_1"},
		"a part was refunded": {
			list: answerPage(false, part), possible: "re_1", refunded: "of the 2350 that pi_1 took, 1850 were given back",
		},
		"the rest is pending": {
			list: answerPage(false, part, dashboardRefund("re_2", 500, "pending")), possible: "re_1",
			refunded: "of the 2350 that pi_1 took, 1850 were given back",
		},
		"it is pending":   {list: answerPage(false, status("pending")), possible: "re_1", refunded: "re_1 is no refund of pi_1 that succeeded"},
		"it failed":       {list: answerPage(false, status("failed")), refunded: "re_1 is no refund of pi_1 that succeeded"},
		"it was canceled": {list: answerPage(false, status("canceled")), refunded: "re_1 is no refund of pi_1 that succeeded"},
		"there is none":   {list: answerPage(false), refunded: "re_1 is no refund of pi_1 that succeeded"},
		"another gave a part": {
			list: answerPage(false, dashboardRefund("re_2", 500, "succeeded")), refunded: "re_1 is no refund of pi_1 that succeeded",
		},
		"another gave all": {
			list: answerPage(false, dashboardRefund("re_2", 2350, "succeeded")), refunded: "re_1 is no refund of pi_1 that succeeded", possible: "re_2",
		},
		"another is giving all": {
			list: answerPage(false, dashboardRefund("re_2", 2350, "pending")), refunded: "re_1 is no refund of pi_1 that succeeded", possible: "re_2",
		},
		"it is of another payment": {
			list: answerPage(false, refundWith(object{"payment_intent": "pi_2"})), unseen: true,
			refunded: "the refunds contradict the payment: Stripe (refunds) answered 200, refund re_1, status succeeded, amount 2350, request req_1",
		},
		"the list cannot be read": {
			list: answerError(500, "api_error", "", nil), unseen: true, refunded: "Stripe (refunds) answered 500, type api_error, request req_1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := newStripeServer(t, map[string][]http.HandlerFunc{routeRefunds: {c.list}}).client(t, nil)
			refund, err := client.VerifyRefunded(t.Context(), firstRefund().Key, firstRefund().Form, testPaid(), "re_1")
			wantEqual(t, "error", c.refunded, errorText(err))
			if err == nil {
				refund.Detail = ""
				wantEqual(t, "refund", refundDone(), refund)
			}
			err = client.VerifyNotRefunded(t.Context(), firstRefund().Key, firstRefund().Form, testPaid())
			var possible *RefundPossibleError
			switch {
			case errors.As(err, &possible):
				wantEqual(t, "refund that is possible", c.possible, possible.RefundID)
				wantNoSecrets(t, err.Error())
			case (err != nil) != c.unseen || c.possible != "":
				t.Errorf("got %v", err)
			}
			if _, _, err := client.RefundsOf(t.Context(), "pi_1", testPaid()); (err != nil) != c.unseen {
				t.Errorf("reading what was given back: %v", err)
			}
		})
	}
}
