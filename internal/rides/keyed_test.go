package rides

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// waving is a made-up flow with path ids and an optional body. Its first phase
// notes which ride was waved at; its second phase answers, unless it is told to
// fail.
func waving(fail func() error) phases.Flow {
	type params struct {
		ID   string `json:"id"`   // from the path
		Hand string `json:"hand"` // from the body
	}
	decode := func(key phases.Key) (p params, err error) {
		return p, json.Unmarshal([]byte(key.Params), &p)
	}
	return phases.NewFlow("wave", 1,
		phases.Atomic(pointRide, func(tx *phases.Tx, key phases.Key) (phases.Outcome, error) {
			p, err := decode(key)
			if err != nil {
				return phases.Outcome{}, err
			}
			tx.Queue(`
				INSERT INTO audit_records (account_id, id, action, ride_id, data)
				VALUES ($1, $2, 'ride.waved', $3, '{}')`,
				key.Account, phases.DerivedID("aud_", "ride.waved", key.Account, key.Key), p.ID)
			return phases.Advance(), nil
		}),
		phases.Atomic(phases.Finished, func(_ *phases.Tx, key phases.Key) (phases.Outcome, error) {
			if err := fail(); err != nil {
				return phases.Outcome{}, err
			}
			p, err := decode(key)
			if err != nil {
				return phases.Outcome{}, err
			}
			body, err := web.EncodeJSON(map[string]string{"waved_at": p.ID, "hand": p.Hand})
			return phases.Finish(http.StatusOK, map[string]string{"Content-Type": "application/json"}, body), err
		}),
	)
}

// checkWave accepts one member, hand.
func checkWave(_ context.Context, _ *phases.Request, body []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return err
	}
	var faults []web.ParamFault
	for name := range members {
		if name != "hand" {
			faults = append(faults, web.ParamFault{Pointer: "/" + name, Detail: "Unknown field."})
		}
	}
	if len(faults) > 0 {
		return web.InvalidParameters(faults)
	}
	return nil
}

// A waver is a service with a second keyed route.
type waver struct {
	*harness
	broken atomic.Bool // makes the last phase fail
}

func newWaver(t *testing.T, settings ...setting) *waver {
	t.Helper()
	w := &waver{}
	flow := waving(func() error {
		if w.broken.Load() {
			return fmt.Errorf("the hand is tired: %w", phases.ErrUnavailable)
		}
		return nil
	})
	w.harness = newHarness(t, append(settings, func(c *phases.Config) { c.Flows = append(c.Flows, flow) })...)
	router := w.service.router()
	router.Post("/v1/rides/{id}/wave", w.service.keyed(keyedRoute{flow: flow, check: checkWave, bodyOptional: true}))
	w.process = w.serving(t, router)
	w.undocumented = true
	return w
}

// wave waves at a ride.
func (w *waver) wave(t *testing.T, ride, key, body string) reply {
	t.Helper()
	return w.send(t, call{method: "POST", path: "/v1/rides/" + ride + "/wave", key: key, body: body, as: w.visa})
}

// TestASecondKeyedRoute: a further route is a flow, a check and a line in the
// router. What the contract says of keys holds for it without more code.
func TestASecondKeyedRoute(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]setting{"fused": nil, "stepwise": {stepwise}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWaver(t, settings...)
			first := w.wave(t, "ride_1", "k", "").must(t, 200, "")
			if want := `{"hand":"","waved_at":"ride_1"}` + "\n"; first.body != want || first.header.Get("Idempotency-Key") != "k" {
				t.Errorf("got %q with %v, want %q", first.body, first.header, want)
			}
			for _, body := range []string{"", "{}", " { } "} { // no body equals {}
				again := w.wave(t, "ride_1", "k", body).must(t, 200, "")
				if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("the body %q is answered %q, %v", body, again.body, again.header)
				}
			}
			for name, other := range map[string]call{
				"another ride":  {path: "/v1/rides/ride_2/wave"},
				"another body":  {path: "/v1/rides/ride_1/wave", body: `{"hand":"left"}`},
				"another route": {path: "/v1/rides", body: aRide},
			} {
				other.method, other.key, other.as = "POST", "k", w.visa
				if r := w.send(t, other); r.status != 422 || r.problem.Code != web.CodeIdempotencyKeyReused {
					t.Errorf("%s under the same key: %d %s", name, r.status, r.body)
				}
			}
			w.hailAs(t, w.visa, "hail").must(t, 201, "")
			w.wave(t, "ride_1", "hail", "").must(t, 422, web.CodeIdempotencyKeyReused)
			second := w.wave(t, "ride_1", "k2", `{"hand":"left"}`).must(t, 200, "")
			if want := `{"hand":"left","waved_at":"ride_1"}` + "\n"; second.body != want {
				t.Errorf("got %q, want %q", second.body, want)
			}
		})
	}
}

// TestASecondKeyedRouteIsResumed: the completer, which has no request, knows
// the ids in the path too.
func TestASecondKeyedRouteIsResumed(t *testing.T) {
	t.Parallel()
	w := newWaver(t, stepwise)
	w.broken.Store(true)
	w.wave(t, "ride_1", "k", `{"hand":"left"}`).must(t, 503, web.CodeUnavailable)
	if record := w.key(t, w.visa, "k"); record.RecoveryPoint != pointRide || record.Params != `{"hand":"left","id":"ride_1"}` {
		t.Errorf("the key stands at %s with %s", record.RecoveryPoint, record.Params)
	}
	w.broken.Store(false)
	w.expire(t)
	completer := phases.Completer{Engine: w.engine, Poll: time.Millisecond, Concurrency: 1, Retention: time.Hour, Tombstones: time.Hour}
	if counts, err := completer.Once(t.Context()); err != nil || counts.Finished != 1 {
		t.Fatalf("the completer did %+v, %v", counts, err)
	}
	r := w.wave(t, "ride_1", "k", `{"hand":"left"}`).must(t, 200, "")
	if want := `{"hand":"left","waved_at":"ride_1"}` + "\n"; r.body != want || r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("got %q, %v, want a replay of %q", r.body, r.header, want)
	}
	if n := number(t, w.harness, `SELECT count(*) FROM audit_records WHERE action = 'ride.waved' AND ride_id = 'ride_1'`); n != 1 {
		t.Errorf("it was noted %d times", n)
	}
}

// TestASecondKeyedRouteChecksInTheSameOrder starts with a request in which
// everything is wrong, and corrects what it is refused for, one at a time.
func TestASecondKeyedRouteChecksInTheSameOrder(t *testing.T) {
	t.Parallel()
	w := newWaver(t)
	c := call{
		method: "POST", path: "/v1/rides/ride_%00/wave", key: "k,k", body: "{",
		header: http.Header{"Content-Type": {"text/plain"}},
	}
	steps := []struct {
		code    web.Code
		correct func()
	}{
		{web.CodeUnauthenticated, func() { c.as = w.visa }},
		{web.CodeUnsupportedMediaType, func() { c.header, c.body = nil, c.body+strings.Repeat(" ", mostBytes) }},
		{web.CodeBodyTooLarge, func() { c.body = "{" }},
		{web.CodeInvalidJSON, func() { c.body = `{"id":"ride_2"}` }},
		{web.CodeIdempotencyKeyInvalid, func() { c.key = "" }},
		{web.CodeIdempotencyKeyMissing, func() { c.key = "k" }},
		{web.CodeNotFound, func() { c.path = "/v1/rides/ride_1/wave" }},
		{web.CodeInvalidParameters, func() { c.body = `{}` }},
		{"", func() { c.body = `{"id":"ride_2"}` }},
		{web.CodeIdempotencyKeyReused, func() {}},
	}
	var got, want []web.Code
	for _, step := range steps {
		got, want = append(got, w.send(t, c).problem.Code), append(want, step.code)
		step.correct()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := number(t, w.harness, `SELECT count(*) FROM idempotency_keys`); n != 1 {
		t.Errorf("%d keys exist, want the one that was accepted", n)
	}
}

// TestPathIDsReachTheFlow: an id in the path takes precedence over a member of
// the body, and what is stored is canonical.
func TestPathIDsReachTheFlow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body string
		ids  []web.PathID
		want string
	}{
		"no ids":             {`{"b":1}`, nil, `{"b":1}`},
		"an id":              {`{}`, []web.PathID{{Name: "id", Value: "ride_1"}}, `{"id":"ride_1"}`},
		"two ids":            {`{"b":1e999}`, []web.PathID{{Name: "x", Value: "1"}, {Name: "a", Value: "2"}}, `{"a":"2","b":1e999,"x":"1"}`},
		"an id in the body":  {`{"id":7}`, []web.PathID{{Name: "id", Value: "ride_1"}}, `{"id":"ride_1"}`},
		"an id with markup":  {`{"b":"<&>"}`, []web.PathID{{Name: "id", Value: `<"&>`}}, `{"b":"<&>","id":"<\"&>"}`},
		"an id with a NUL":   {`{}`, []web.PathID{{Name: "id", Value: "\x00"}}, `{"id":"\u0000"}`},
		"an id of bad UTF-8": {`{}`, []web.PathID{{Name: "id", Value: "\xff"}}, "{\"id\":\"\ufffd\"}"},
	} {
		got, err := flowParams([]byte(test.body), test.ids)
		if err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
}
