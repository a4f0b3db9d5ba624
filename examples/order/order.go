// Package order is an example of a flow: an order service. Before the client
// gets its answer, goods are reserved in an inventory and a card is charged.
// The warehouse and the customer are told later. If the card is declined, the
// goods go back.
//
// docs/add-a-flow.md walks through it. No program runs it; proof/crash breaks
// every message that it sends.
package order

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// Flow returns what POST /v1/orders does. Each phase is named for the recovery
// point that it reaches.
func Flow(pay *payments.Stripe, store accounts.Store, goods Inventory) phases.Flow {
	return phases.NewFlow("order", 1,
		phases.Atomic("order_created", createOrder),
		phases.Foreign("goods_reserved", phases.Call[StockForm, Stock]{
			Prepare: freezeGoods, Do: goods.Send, Find: goods.Find, Record: recordReservation,
		}),
		phases.Foreign("payment_decided", phases.Call[payments.ChargeForm, payments.Charge]{
			Prepare: freezePayment, Do: pay.Charge, Find: findPayment(pay, store), Record: recordPayment,
		}),
		phases.Foreign("goods_settled", phases.Call[StockForm, Stock]{
			Prepare: freezeGoods, Do: goods.Send, Find: goods.Find, Record: recordSettlement,
		}),
		phases.Atomic(phases.Finished, answer),
	)
}

// Params is what the client asks for.
type Params struct {
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

// An Order is the row of an order, as the phases and the client see it.
type Order struct {
	ID string `json:"id"`
	Params
	Amount  int64  `json:"amount"` // in cents
	Status  string `json:"status"`
	Charge  string `json:"charge,omitempty"`
	Failure string `json:"failure,omitempty"` // why it isn't paid
}

// createOrder inserts the order. If there is one under the key already, the key
// had an earlier life, and QueueOnce refuses it.
func createOrder(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	var params Params
	if err := json.Unmarshal([]byte(key.Params), &params); err != nil {
		return phases.Outcome{}, fmt.Errorf("decoding stored parameters: %w", err)
	}
	digest := phases.Digest("order", key.Account, key.Key)
	order := Order{ID: fmt.Sprintf("order_%x", digest[:12]), Params: params, Status: "pending"}
	tx.QueueOnce(`INSERT INTO orders (account_id, key, id, item, quantity) VALUES ($1, $2, $3, $4, $5)`,
		key.Account, key.Key, order.ID, order.Item, order.Quantity)
	phases.Know(tx, order)
	return phases.Advance(), nil
}

// freezeGoods returns what the inventory is asked for, and commits before that
// is sent. Goods that are not paid go back.
func freezeGoods(tx *phases.Tx, key phases.Key, _ string) (StockForm, phases.Outcome, error) {
	order, err := orderOf(tx, key)
	action := map[string]string{"pending": "reserve", "paid": "take", "not_paid": "give_back"}[order.Status]
	return newStockForm(action, order), phases.Advance(), err
}

// recordReservation stores the price, or ends the key if there are no goods.
func recordReservation(tx *phases.Tx, key phases.Key, _ StockForm, stock Stock) (phases.Outcome, error) {
	order, err := orderOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	switch stock.Status {
	case "reserved":
		order.Amount = order.Quantity * stock.UnitPrice
		update(tx, key, order)
		return phases.Advance(), nil
	case "out_of_stock":
		order.Status = "out_of_stock"
		update(tx, key, order)
		return refuse(key, http.StatusConflict, "out_of_stock", "Out of stock"), nil
	default:
		return phases.Park("inventory_odd", stock.Status), nil
	}
}

// freezePayment returns the charge, a pure function of account and order.
func freezePayment(tx *phases.Tx, key phases.Key, foreignKey string) (payments.ChargeForm, phases.Outcome, error) {
	order, err := orderOf(tx, key)
	if err != nil {
		return "", phases.Outcome{}, err
	}
	terms := payments.ChargeTerms{
		Amount: order.Amount, Currency: "usd", Description: "Order " + order.ID,
		RideID: order.ID, AccountID: key.Account, Operation: foreignKey,
	}
	err = tx.QueryRow(`SELECT stripe_customer, payment_method FROM accounts WHERE id = $1`,
		key.Account).Scan(&terms.Customer, &terms.PaymentMethod)
	return payments.NewChargeForm(terms), phases.Advance(), err
}

// findPayment returns the Find: it looks at all customers of the account.
func findPayment(pay *payments.Stripe, store accounts.Store) func(context.Context, phases.Sent[payments.ChargeForm]) (payments.Charge, error) {
	return func(ctx context.Context, sent phases.Sent[payments.ChargeForm]) (payments.Charge, error) {
		return pay.FindCharge(ctx, sent, store.Customers)
	}
}

// recordPayment stores what Stripe decided. A declined card doesn't end the key
// yet: the goods must go back first.
func recordPayment(tx *phases.Tx, key phases.Key, _ payments.ChargeForm, charge payments.Charge) (phases.Outcome, error) {
	order, err := orderOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	switch charge.Status {
	case payments.ChargeSucceeded:
		order.Status, order.Charge = "paid", charge.ChargeID
	case payments.ChargeDeclined:
		order.Status, order.Failure = "not_paid", charge.DeclineKind
	case payments.ChargeProcessing:
		return phases.Wait(time.Minute, charge.IntentID), nil
	default:
		return phases.Park(charge.Reason, charge.Detail), nil
	}
	update(tx, key, order)
	return phases.Advance(), nil
}

// recordSettlement parks the key unless the inventory did as it was asked.
func recordSettlement(_ *phases.Tx, _ phases.Key, form StockForm, stock Stock) (phases.Outcome, error) {
	if want := map[string]string{"take": "taken", "give_back": "given_back"}[form.action()]; stock.Status != want {
		return phases.Park("inventory_odd", stock.Status), nil
	}
	return phases.Advance(), nil
}

// answer finishes the key, and queues what a paid order causes.
func answer(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	order, err := orderOf(tx, key)
	if err != nil {
		return phases.Outcome{}, err
	}
	if order.Status != "paid" {
		return refuse(key, http.StatusPaymentRequired, order.Failure, "Not paid"), nil
	}
	body, err := web.EncodeJSON(order)
	for _, kind := range []string{"warehouse", "notification"} {
		tx.Queue(`INSERT INTO order_jobs (account_id, key, kind, args) VALUES ($1, $2, $3, $4)`,
			key.Account, key.Key, kind, string(body))
	}
	return phases.Finish(http.StatusCreated, map[string]string{"Content-Type": "application/json"}, body), err
}

// refuse finishes the key with a problem, which is replayed like any answer.
func refuse(key phases.Key, status int, code, title string) phases.Outcome {
	problem := web.Problem{
		Type: "/problems/" + code, Title: title, Status: status, Code: web.Code(code),
		Detail: "Nothing was charged.", RequestID: key.RequestID, SafeNewKey: true,
	}
	return phases.Finish(status, map[string]string{"Content-Type": web.ProblemType}, problem.Encode())
}

// update stores what has become of the order.
func update(tx *phases.Tx, key phases.Key, order Order) {
	tx.Queue(`UPDATE orders SET amount = $3, status = $4, charge_id = $5, failure = $6 WHERE account_id = $1 AND key = $2`,
		key.Account, key.Key, order.Amount, order.Status, order.Charge, order.Failure)
	phases.Know(tx, order)
}

// orderOf returns the order of a key. It is known if a phase of this attempt
// wrote it; an attempt that resumes reads it.
func orderOf(tx *phases.Tx, key phases.Key) (Order, error) {
	order, ok := phases.Known[Order](tx)
	if ok {
		return order, nil
	}
	err := tx.QueryRow(`
		SELECT id, item, quantity, amount, status, charge_id, failure FROM orders
		WHERE account_id = $1 AND key = $2`, key.Account, key.Key,
	).Scan(&order.ID, &order.Item, &order.Quantity, &order.Amount, &order.Status, &order.Charge, &order.Failure)
	return order, err
}
