package audit_test

import (
	"fmt"

	"github.com/rocketrides/rocketrides/internal/audit"
)

func ExampleFinding_String() {
	finding := audit.Finding{Check: "charged-once", Account: "acct_1", Key: "key 1", Detail: "pi_1 and pi_2 both charged the card"}
	fmt.Println(finding)
	// Output: charged-once account="acct_1" key="key 1": pi_1 and pi_2 both charged the card
}
