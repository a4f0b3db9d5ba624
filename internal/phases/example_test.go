package phases_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// Types for what is sent to the shop's payment processor, and for its result.
type (
	paymentForm string
	payment     struct{ ID string }
)

// processor is the client of the payment processor.
type processor struct{}

// Pay sends the form. The processor replays its first answer if it has seen
// sent.Key before.
func (processor) Pay(context.Context, phases.Sent[paymentForm]) (payment, error) {
	return payment{ID: "pay_1"}, nil
}

// Find looks up whether an earlier Pay got through.
func (processor) Find(context.Context, phases.Sent[paymentForm]) (payment, error) {
	return payment{}, phases.ErrNothingFound
}

// insertOrder is a phase: what it queues commits together with the recovery
// point "ordered".
func insertOrder(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
	tx.QueueOnce(`INSERT INTO orders (account_id, key, params) VALUES ($1, $2, $3)`, key.Account, key.Key, key.Params)
	return phases.Advance(), nil
}

// preparePayment returns the form. It commits together with the order, before
// anything is sent.
func preparePayment(_ *phases.Tx, key phases.Key, foreignKey string) (paymentForm, phases.Outcome, error) {
	form := fmt.Sprintf("amount=500&order=%s&operation=%s", key.Key, foreignKey)
	return paymentForm(form), phases.Advance(), nil
}

// recordPayment commits the result of the call.
func recordPayment(tx *phases.Tx, key phases.Key, _ paymentForm, paid payment) (phases.Outcome, error) {
	tx.Queue(`UPDATE orders SET payment = $3 WHERE account_id = $1 AND key = $2`, key.Account, key.Key, paid.ID)
	return phases.Advance(), nil
}

// answerOrder ends the key with the answer that every retry gets.
func answerOrder(*phases.Tx, phases.Key) (phases.Outcome, error) {
	return phases.Finish(http.StatusCreated, map[string]string{"Content-Type": "text/plain"}, []byte("ordered")), nil
}

// A flow is a list of three phases: the order is stored, the payment is made,
// and the client is answered.
func ExampleNewFlow() {
	var p processor
	flow := phases.NewFlow("order", 1,
		phases.Atomic("ordered", insertOrder),
		phases.Foreign("paid", phases.Call[paymentForm, payment]{
			Prepare: preparePayment, Do: p.Pay, Find: p.Find, Record: recordPayment,
		}),
		phases.Atomic(phases.Finished, answerOrder),
	)
	fmt.Println(flow.Name(), flow.Version(), flow.RecoveryPoints())
	// Output: order 1 [started ordered paid finished]
}

// The payment of a client's key is sent under the same key in every attempt, on
// every machine.
func ExampleForeignKey() {
	fmt.Println(phases.ForeignKey("order", "paid", "acct_1", "client-key-1"))
	// Output: 993d536765f48175fc6e7f6de4b22d3c6a34d9821c627a256670c8764233a60a
}

// The wait doubles with each failure and is spread over the upper half of its
// range, so that clients that failed together don't come back together.
func ExampleBackoff_Next() {
	b := phases.Backoff{Initial: time.Second, Max: 10 * time.Second}
	fmt.Println("after failure 1:", b.Next(1))
	for n, most := range map[int]time.Duration{2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second, 9: b.Max} {
		wait := b.Next(n)
		fmt.Printf("after failure %d: from %s to %s: %t\n", n, most/2, most, most/2 <= wait && wait <= most)
	}
	// Unordered output:
	// after failure 1: 1s
	// after failure 2: from 1s to 2s: true
	// after failure 3: from 2s to 4s: true
	// after failure 4: from 4s to 8s: true
	// after failure 9: from 5s to 10s: true
}
