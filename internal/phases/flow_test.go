package phases_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/phases"
)

func TestNewFlowPanicsOnABadList(t *testing.T) {
	t.Parallel()
	nop := func(*phases.Tx, phases.Key) (phases.Outcome, error) { return phases.Advance(), nil }
	for name, construct := range map[string]func(){
		"no phase":       func() { phases.NewFlow("f", 1) },
		"no name":        func() { phases.NewFlow("", 1, phases.Atomic(phases.Finished, nop)) },
		"no version":     func() { phases.NewFlow("f", 0, phases.Atomic(phases.Finished, nop)) },
		"an empty point": func() { phases.NewFlow("f", 1, phases.Atomic("", nop), phases.Atomic(phases.Finished, nop)) },
		"a repeated point": func() {
			phases.NewFlow("f", 1, phases.Atomic("a", nop), phases.Atomic("a", nop), phases.Atomic(phases.Finished, nop))
		},
		"the point started": func() {
			phases.NewFlow("f", 1, phases.Atomic(phases.Started, nop), phases.Atomic(phases.Finished, nop))
		},
		"no end": func() { phases.NewFlow("f", 1, phases.Atomic("a", nop)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it was accepted")
				}
			}()
			construct()
		})
	}
}

func TestNoOutcomeIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	flow := phases.NewFlow("empty", 1, phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
		return phases.Outcome{}, nil
	}))
	if _, err := b.engine.Run(t.Context(), flow, request("none")); err == nil {
		t.Error("a phase without an outcome passed")
	}
	flow = phases.NewFlow("endless", 1, phases.Atomic(phases.Finished, func(*phases.Tx, phases.Key) (phases.Outcome, error) {
		return phases.Advance(), nil
	}))
	if _, err := b.engine.Run(t.Context(), flow, request("none")); err == nil {
		t.Error("a last phase without an answer passed")
	}
	if got := value[int](t, b, `SELECT count(*) FROM idempotency_keys`); got != 0 {
		t.Errorf("%d keys were left behind, want none", got)
	}
}

func TestUnknownFlowsAndRealmsAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.carrier.set(hooks{before: func(context.Context, int) error { return errLost }})
	for _, key := range []string{"version", "realm", "mine"} {
		if _, err := b.run(t, key); err == nil {
			t.Fatal("the carrier answered")
		}
	}
	b.carrier.set(hooks{})
	b.exec(t, `UPDATE idempotency_keys SET flow_version = 2 WHERE key = 'version'`)
	b.exec(t, `UPDATE idempotency_keys SET realm = 'live' WHERE key = 'realm'`)
	b.expire(t)

	for _, key := range []string{"version", "realm"} {
		if _, err := b.run(t, key); !errors.Is(err, phases.ErrUnknownVersion) {
			t.Errorf("%s: got %v, want ErrUnknownVersion", key, err)
		}
	}
	if counts := b.complete(t); counts != (phases.Counts{Finished: 1}) {
		t.Errorf("the completer did %+v, want it to finish only the key that it knows", counts)
	}
	// A newer process knows both versions.
	next := b.newEngine(t, nil, func(c *phases.Config) {
		c.Flows = []phases.Flow{parcels(b.carrier, 1), parcels(b.carrier, 2)}
	})
	if counts, err := b.completer(next).Once(t.Context()); err != nil || counts.Finished != 1 {
		t.Errorf("the newer completer did %+v, %v", counts, err)
	}
}
