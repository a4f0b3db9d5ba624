package rides

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// state is everything that events can change about a key of the account visa,
// and what must not change with them.
func (h *harness) state(t *testing.T, key string) string {
	t.Helper()
	return h.given(t, key) + "; " + text(t, h, `
		SELECT concat_ws(' ', k.response_status, k.parked_reason, (
		         SELECT string_agg(kind, ',' ORDER BY kind)
		         FROM staged_jobs j
		         WHERE j.account_id = k.account_id AND (j.key = k.key OR j.args->>'ride_id' = r.id)), (
		         SELECT string_agg(action, ',' ORDER BY action)
		         FROM audit_records a
		         WHERE a.account_id = k.account_id AND a.ride_id = r.id))
		FROM idempotency_keys k JOIN rides r ON r.account_id = k.account_id AND r.key = k.key
		WHERE k.account_id = $1 AND k.key = $2`, h.visa.AccountID, key)
}

// permutations yields every order of n things.
func permutations(n int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		var extend func(order []int) bool
		extend = func(order []int) bool {
			if len(order) == n {
				return yield(slices.Clone(order))
			}
			for i := range n {
				if !slices.Contains(order, i) && !extend(append(order, i)) {
					return false
				}
			}
			return true
		}
		extend(nil)
	}
}

// contest makes five changes at Stripe to a new ride of a key, and returns an
// event of each: it is paid, refunded in part, the refund fails, and the card's
// holder contests the charge.
func (h *harness) contest(t *testing.T, key string, seen *int) []fakestripe.Event {
	t.Helper()
	h.told(t, seen)
	h.hailAs(t, h.visa, key).must(t, 201, "")
	intent := h.intentOf(t, key)
	refund, err := h.fake.DashboardRefund(intent, 500)
	if err == nil {
		err = h.fake.ChangeRefund(refund, "failed")
	}
	if err == nil {
		err = h.fake.Dispute(intent, "needs_response")
	}
	if err != nil {
		t.Fatal(err)
	}
	var five []fakestripe.Event
	for _, e := range h.told(t, seen) {
		if slices.Contains([]string{
			"payment_intent.succeeded", "refund.created", "charge.refunded", "charge.refund.updated", "charge.dispute.created",
		}, e.Type) {
			five = append(five, e)
		}
	}
	if len(five) != 5 {
		t.Fatalf("Stripe has made the events %+v", five)
	}
	return five
}

// TestEveryOrderEndsInOneState: five events in all 120 orders, each worked
// before the next one comes, as snapshots, as thin events, and as a mixture in
// which some come twice. Without -full each shape has a third of the orders.
func TestEveryOrderEndsInOneState(t *testing.T) {
	t.Parallel()
	const want = "charged failed 500 disputed blocked; 201 receipt ride.created"
	for part, shapes := range []string{"snapshot", "thin", "mixture"} {
		t.Run(shapes, func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable, not secret
			nth := 0
			for order := range permutations(5) {
				if nth++; !*full && nth%3 != part {
					continue
				}
				key := fmt.Sprint(order[0], order[1], order[2], order[3], order[4])
				key = "k" + string([]byte{key[0], key[2], key[4], key[6], key[8]})
				five := h.contest(t, key, &seen)
				for _, i := range order {
					for _, shape := range shapesOf(shapes, random) {
						h.deliver(t, five[i].ID, shape)
						h.work(t)
					}
				}
				if got := h.state(t, key); got != want {
					t.Fatalf("in the order %v the ride is %q, want %q", order, got, want)
				}
				h.checkAnswer(t, key, 201)
			}
			if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE worked_at IS NULL`); n != 0 {
				t.Errorf("%d events wait", n)
			}
		})
	}
}

// shapesOf returns the shapes in which one event is delivered, one after the
// other.
func shapesOf(shapes string, random *rand.Rand) []string {
	if shapes != "mixture" {
		return []string{shapes}
	}
	all := []string{"snapshot", "thin", "snapshot"}
	return all[random.IntN(2) : 1+random.IntN(2)+1]
}

// A story is what happens at Stripe to a ride of the account visa, step by
// step.
type story struct {
	name  string
	steps func(t *testing.T, h *harness, key string) []func() error
	want  string
}

// stories returns what can happen to a ride that was hailed.
func stories() []story {
	return []story{
		{
			"contested", func(t *testing.T, h *harness, key string) []func() error {
				t.Helper()
				h.hailAs(t, h.visa, key).must(t, 201, "")
				intent, refund := h.intentOf(t, key), ""
				return []func() error{
					func() (err error) { refund, err = h.fake.DashboardRefund(intent, 500); return err },
					func() error { return h.fake.ChangeRefund(refund, "pending") },
					func() error { return h.fake.Dispute(intent, "warning_needs_response") },
					func() error { return h.fake.ChangeRefund(refund, "failed") },
					func() error { return h.fake.Dispute(intent, "needs_response") },
					func() error { return h.fake.Dispute(intent, "lost") },
				}
			}, "charged failed 500 disputed blocked; 201 receipt ride.created",
		},
		{
			"unknown for a while", func(t *testing.T, h *harness, key string) []func() error {
				t.Helper()
				h.parkUnknown(t, key)
				return []func() error{func() error { return h.fake.Advance(2 * 60e9) }}
			}, "charged; 201 receipt ride.created",
		},
		{
			"declined", func(t *testing.T, h *harness, key string) []func() error {
				t.Helper()
				h.fake.Script(fakestripe.Fault{Kind: fakestripe.Declined402, DeclineCode: "lost_card"})
				h.hailAs(t, h.visa, key).must(t, 402, "card_declined")
				return nil
			}, "declined; 402 ride.created",
		},
		{
			"paid after its 402", func(t *testing.T, h *harness, key string) []func() error {
				t.Helper()
				h.fake.Script(fakestripe.Fault{Kind: fakestripe.Declined402, DeclineCode: "lost_card"})
				h.hailAs(t, h.visa, key).must(t, 402, "card_declined")
				h.pay(t, h.intentOf(t, key))
				return nil
			}, "declined succeeded 2350; 402 ride.charged_late,ride.created,ride.refunded_late",
		},
	}
}

// TestAnyInterleavingEndsInOneState: the steps of a story happen in their
// order, and their events come whenever they like, again and again, or late,
// while workers work.
func TestAnyInterleavingEndsInOneState(t *testing.T) {
	t.Parallel()
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h, seen := newHarness(t), 0
			for seed := range uint64(15) {
				random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // repeatable, not secret
				key := fmt.Sprint("k", seed)
				h.told(t, &seen)
				steps := s.steps(t, h, key)
				var made []fakestripe.Event
				undelivered := map[string]bool{}
				for {
					for _, e := range h.told(t, &seen) {
						made, undelivered[e.ID] = append(made, e), true
					}
					if len(steps) == 0 && len(undelivered) == 0 && random.IntN(4) == 0 {
						break
					}
					switch what := random.IntN(5); {
					case what == 0 && len(steps) > 0:
						if err := steps[0](); err != nil {
							t.Fatal(err)
						}
						steps = steps[1:]
					case what <= 2 && len(made) > 0:
						e := made[random.IntN(len(made))]
						h.deliver(t, e.ID, []string{"snapshot", "thin"}[random.IntN(2)])
						delete(undelivered, e.ID)
					case what == 3:
						h.work(t)
					case what == 4:
						h.finish(t)
					}
				}
				h.settleDown(t)
				if got := h.state(t, key); got != s.want {
					t.Fatalf("seed %d: the ride is %q, want %q", seed, got, s.want)
				}
			}
			h.checkSingleCharges(t)
		})
	}
}

// settleDown works until nothing is left to do.
func (h *harness) settleDown(t *testing.T) {
	t.Helper()
	for range 5 {
		h.work(t)
		h.finish(t)
	}
	if n := number(t, h, `SELECT (SELECT count(*) FROM stripe_events WHERE worked_at IS NULL) + (SELECT count(*) FROM open_intents)`); n != 0 {
		t.Errorf("%d events and open payment intents are left", n)
	}
}

// checkSingleCharges checks that no ride was charged twice.
func (h *harness) checkSingleCharges(t *testing.T) {
	t.Helper()
	for ride, n := range h.fake.Charges() {
		if n != 1 {
			t.Errorf("ride %s was charged %d times", ride, n)
		}
	}
}

// TestWithoutAnyEventAllEndsTheSame: events only hasten. A sweep makes up for
// those that never came.
func TestWithoutAnyEventAllEndsTheSame(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i, s := range stories() {
		key := fmt.Sprint("k", i)
		for _, step := range s.steps(t, h, key) {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // a second sweep finds nothing to change
		h.exec(t, `UPDATE open_intents SET run_after = now()`)
		if _, err := h.eventWorker().Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.finish(t)
		h.settleDown(t)
	}
	for i, s := range stories() {
		if got := h.state(t, fmt.Sprint("k", i)); got != s.want {
			t.Errorf("%s: the ride is %q, want %q", s.name, got, s.want)
		}
	}
	if n := number(t, h, `SELECT count(*) FROM stripe_events WHERE type <> 'sweep'`); n != 0 {
		t.Errorf("%d events came", n)
	}
	listed, err := h.eventWorker().Events(t.Context(), false, 100)
	if err != nil || len(listed) == 0 || listed[0].Outcome == nil {
		t.Errorf("listed %+v, %v", listed, err)
	}
	h.checkSingleCharges(t)
}
