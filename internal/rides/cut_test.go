package rides

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestEveryCut cuts the connection to Postgres and the one to Stripe at each
// message of a ride in turn.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	for mode, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter} {
			for _, recovery := range []string{"client", "completer"} {
				t.Run(fmt.Sprint(mode, "/", kind, "/", recovery), func(t *testing.T) {
					t.Parallel()
					h := newHarness(t, settings...)
					h.hailAs(t, h.visa, "warm").must(t, 201, "")
					for k := 1; ; k++ {
						key := fmt.Sprint("k", k)
						h.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
						r := h.hailAs(t, h.visa, key)
						uncut := h.wire.Messages() < k
						h.wire.Plan(wire.Nothing)
						if r.status != http.StatusCreated && r.status != http.StatusServiceUnavailable {
							t.Fatalf("message %d: %d %s", k, r.status, r.body)
						}
						h.expire(t)
						if recovery == "completer" {
							h.complete(t)
						}
						h.hailAs(t, h.visa, key).must(t, 201, "")
						h.checkCharged(t, h.visa, key)
						if uncut {
							return
						}
					}
				})
			}
		}
	}
}
