package rides

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// checkReplay checks that a key's answer is replayed. Its body must have the id
// of the request that got it first, and its header an id of its own.
func (h *harness) checkReplay(t *testing.T, key, first string) {
	t.Helper()
	r := h.hailAs(t, h.declined, key).must(t, 402, web.CodeCardDeclined)
	if r.header.Get("Idempotent-Replayed") != "true" || r.problem.RequestID != first || r.header.Get("Request-Id") == first {
		t.Errorf("the replay has the id %s in its body and %s in its header, want %s and a new one (%v)",
			r.problem.RequestID, r.header.Get("Request-Id"), first, r.header)
	}
}

// TestAFirstProblemNamesItsOwnRequest: only a replay has the id of another
// request in its body. A 402 that a retry brings about has the id of that
// retry, and one that the completer brings about has the id of the request that
// made the key.
func TestAFirstProblemNamesItsOwnRequest(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		abandon := func(t *testing.T) (h *harness, maker string) {
			t.Helper()
			h = newHarness(t, settings...)
			h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
			return h, h.hailAs(t, h.declined, "k").must(t, 503, web.CodePaymentProcessorUnavailable).problem.RequestID
		}

		t.Run(name+", a retry", func(t *testing.T) {
			t.Parallel()
			h, maker := abandon(t)
			r := h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
			checkID(t, r)
			if r.header.Get("Idempotent-Replayed") != "" || r.problem.RequestID == maker {
				t.Errorf("the first 402 has the id of the request that made the key, or is a replay: %v, %s", r.header, r.body)
			}
			h.checkReplay(t, "k", r.header.Get("Request-Id"))
		})

		t.Run(name+", an async retry", func(t *testing.T) {
			t.Parallel()
			h, _ := abandon(t)
			async := call{method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.declined, header: http.Header{"Prefer": {"respond-async"}}}
			id := h.send(t, async).must(t, 202, "").header.Get("Request-Id")
			pgtest.Eventually(t, "the key is finished", func() bool { return h.key(t, h.declined, "k").FinishedAt != nil })
			h.checkReplay(t, "k", id)
		})

		t.Run(name+", the completer", func(t *testing.T) {
			t.Parallel()
			h, maker := abandon(t)
			h.expire(t)
			if counts := h.complete(t); counts.Finished != 1 {
				t.Fatalf("the completer did %+v", counts)
			}
			h.checkReplay(t, "k", maker)
		})
	}
}

// TestARetrysProblemSurvivesEveryCut loses each message of a retry in turn, or
// the answer to it. Each 402 has the id of its own request, unless it is a
// replay, and there is only one 402.
func TestARetrysProblemSurvivesEveryCut(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			first := 0
			for k := 1; ; k++ {
				key := fmt.Sprint("k", k)
				h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
				h.hailAs(t, h.declined, key).must(t, 503, web.CodePaymentProcessorUnavailable)
				h.wire.Plan(wire.On(k, wire.Fault{Kind: kind}))
				cut := h.hailAs(t, h.declined, key)
				uncut := h.wire.Messages() < k
				h.wire.Plan(wire.Nothing)
				if cut.status == http.StatusPaymentRequired {
					checkID(t, cut)
					first++
				}
				h.expire(t)
				again := h.hailAs(t, h.declined, key).must(t, 402, web.CodeCardDeclined)
				checkID(t, again)
				if cut.status == http.StatusPaymentRequired && again.body != cut.body {
					t.Errorf("message %d: two answers: %s and %s", k, cut.body, again.body)
				}
				if uncut {
					break
				}
			}
			if first < 3 { // a lost look-up, claim or commit is repeated within the request
				t.Errorf("%d retries got their answer", first)
			}
		})
	}
}

// checkID checks that a problem names another request only if it is a replay.
func checkID(t *testing.T, r reply) {
	t.Helper()
	replayed := r.header.Get("Idempotent-Replayed") != ""
	if own := r.problem.RequestID == r.header.Get("Request-Id"); own == replayed {
		t.Errorf("replayed %t: the id is %s in the body and %s in the header", replayed, r.problem.RequestID, r.header.Get("Request-Id"))
	}
}
