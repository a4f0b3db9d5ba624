package order_test

import (
	"fmt"

	"github.com/rocketrides/rocketrides/examples/order"
	"github.com/rocketrides/rocketrides/internal/accounts"
)

// The flow is a list of phases, each of which is named for the recovery point
// that it reaches.
func ExampleFlow() {
	flow := order.Flow(nil, accounts.Store{}, order.Inventory{})
	for _, point := range flow.RecoveryPoints() {
		fmt.Println(point)
	}
	// Output:
	// started
	// order_created
	// goods_reserved
	// payment_decided
	// goods_settled
	// finished
}
