package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/rocketrides/rocketrides/internal/payments"
)

// refundQueries returns the checks that compare refunds with rides and keys. In
// each, k is a key of the cancel flow.
func refundQueries() []query {
	return []query{
		{
			check{"cancel-has-its-ride", "I2", "A cancel answered with 200 has a canceled ride, which it has canceled."}, `
			SELECT k.account_id, k.key, r.id, CASE
			         WHEN r.id IS NULL THEN 'answered with 200, and no ride was canceled' ELSE 'answered with 200, and the ride is ' || r.status END
			FROM idempotency_keys k LEFT JOIN rides r ON r.account_id = k.account_id AND r.cancel_key = k.key
			WHERE k.flow = 'cancel' AND k.response_status = 200
			  AND (r.status = 'canceled' AND convert_from(k.response_body, 'UTF8')::jsonb @> jsonb_build_object('id', r.id, 'status', 'canceled')) IS NOT TRUE`,
		},
		{
			check{"canceled-by-its-key", "I12", "A canceled ride has the key that canceled it, and that key is past its refund."}, `
			SELECT r.account_id, r.cancel_key, r.id, 'canceled, and ' || coalesce('its key stands at ' || k.recovery_point || coalesce(' with ' || k.response_status, ''), 'by no key')
			FROM rides r LEFT JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.cancel_key
			WHERE r.status = 'canceled' AND (r.cancel_key IS NULL OR k.key IS NOT NULL AND k.reaped_at IS NULL
			  AND (k.flow = 'cancel' AND (k.recovery_point = 'refund_created' OR k.response_status = 200)) IS NOT TRUE)`,
		},
		{
			check{"claim-is-held", "I16", "A charged ride that a cancel has claimed will be let go: that cancel's key is unfinished."}, `
			SELECT r.account_id, r.cancel_key, r.id, 'claimed by a key that is ' || CASE WHEN k.key IS NULL THEN 'gone' ELSE 'finished' END
			FROM rides r LEFT JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.cancel_key
			WHERE r.status = 'charged' AND r.cancel_key IS NOT NULL AND (k.key IS NULL OR k.finished_at IS NOT NULL)`,
		},
		{
			check{"refund-is-the-fare", "I27", "No ride shows more given back than its fare, and a canceled ride shows all of it."}, `
			SELECT account_id, key, id, refund_amount || ' of ' || fare_amount || ' are ' || refund_status || ', and the ride is ' || status
			FROM rides
			WHERE refund_amount > fare_amount OR refund_amount <= 0 OR status = 'pending' AND refund_id IS NOT NULL
			   OR status = 'canceled' AND (refund_status = 'pending' OR refund_status = 'succeeded' AND refund_amount <> fare_amount)`,
		},
	}
}

// compareRefunds compares Stripe's refunds with the payments that they gave
// back, and with each other.
func (a Auditor) compareRefunds(ctx context.Context, c *comparison, since time.Time) error {
	err := a.Stripe.AllRefunds(ctx, since, func(page []payments.RefundSeen) error {
		for _, refund := range page {
			if refund.Counts {
				c.compareRefund(refund)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing Stripe's refunds: %w", err)
	}
	return nil
}

// compareRefund checks that a payment has what a refund gave back of it, and
// that no other refund has the same operation.
func (c *comparison) compareRefund(refund payments.RefundSeen) {
	f := Finding{Account: refund.Account, Ride: refund.Ride}
	if left, known := c.left[refund.IntentID]; known {
		left -= refund.Amount
		c.left[refund.IntentID] = left
		if left < 0 {
			c.add(refundedOnce, f, "%d more than %s took were given back", -left, refund.IntentID)
		}
	}
	if refund.Operation == "" {
		return // somebody made it at Stripe's dashboard
	}
	operation := operationOf(refund.Operation)
	if other, refunded := c.refundedBy[operation]; refunded {
		c.add(refundedOnce, f, "%s and %s both gave money back for one key", other, refund.ID)
	}
	c.refundedBy[operation] = refund.ID
}

// compareGiven checks that what was given back of a ride's payment is on the
// ride, unless a key is still giving it back.
func (c *comparison) compareGiven(f Finding, intent payments.Intent, r ride) {
	switch {
	case r.refunding:
	case r.status == "canceled" && !intent.RefundedInFull && r.refund != payments.GivenFailed:
		c.add(rideHasItsMoney, f, "the ride is canceled, and %s was not refunded in full", intent.ID)
	case r.status == "charged" && intent.Refunded && r.refund == "":
		c.add(rideHasItsMoney, f, "%s was refunded, and the ride doesn't show it", intent.ID)
	}
}
