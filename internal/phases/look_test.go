package phases_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestALookClaimsNothing: whatever the key's state, a look answers and changes
// nothing. A retry would claim an abandoned key.
func TestALookClaimsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	done := b.mustRun(t, "done")
	_ = b.sendOnce(t, "open", hooks{before: lost})
	_ = b.sendOnce(t, "parked", hooks{before: lost})
	if err := b.keys().Park(t.Context(), b.show(t, "parked"), "ann"); err != nil {
		t.Fatal(err)
	}
	before := b.snapshot(t, "open")
	if got, err := b.engine.Look(t.Context(), request("open")); err != nil || !got.Pending || got.Key.Key != "open" {
		t.Errorf("an abandoned key: got %+v, %v; want pending", got, err)
	}
	if after := b.snapshot(t, "open"); after != before {
		t.Errorf("the look changed the key from %s to %s", before, after)
	}
	if got, err := b.engine.Look(t.Context(), request("done")); err != nil || !got.Replayed || !cmp.Equal(got.Answer, done.Answer) {
		t.Errorf("a finished key: got %+v, %v", got, err)
	}
	other := request("open")
	other.Hash = func(int) ([]byte, bool) { return bytes.Repeat([]byte{1}, 32), true }
	if _, err := b.engine.Look(t.Context(), other); !errors.Is(err, phases.ErrKeyReused) {
		t.Errorf("another request: got %v, want ErrKeyReused", err)
	}
	for key, want := range map[string]error{"parked": phases.ErrParked, "nothing": phases.ErrUnavailable} {
		if _, err := b.engine.Look(t.Context(), request(key)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", key, err, want)
		}
	}
}

// TestTheEndOfAnAttemptIsTold: whoever waits for an attempt of this process is
// told when it has ended and everything that it wrote is committed.
func TestTheEndOfAnAttemptIsTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after func(context.Context, int) error
		point string
	}{
		"with an answer": {point: phases.Finished},
		"with a failure": {after: lost, point: packed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			arrived, leave := make(chan struct{}), make(chan struct{})
			b.carrier.set(hooks{before: func(context.Context, int) error { close(arrived); <-leave; return nil }, after: test.after})
			ran := make(chan struct{})
			go func() {
				defer close(ran)
				_, _ = b.engine.Run(context.WithoutCancel(t.Context()), b.flow, request("k"))
			}()
			<-arrived
			ended, also := b.engine.Ended("acct_1", "k"), b.engine.Ended("acct_1", "k")
			if ended == nil || b.engine.Ended("acct_1", "another") != nil || b.engine.Ended("acct_2", "k") != nil {
				t.Fatal("the attempt at the key can't be waited for, or another one can")
			}
			select {
			case <-ended:
				t.Error("the end was told before it came")
			default:
			}
			close(leave)
			<-ended
			<-also
			if got := b.show(t, "k"); got.RecoveryPoint != test.point || got.Leased {
				t.Errorf("when the end is told the key stands at %s, leased %t", got.RecoveryPoint, got.Leased)
			}
			<-ran
			if b.engine.Ended("acct_1", "k") != nil {
				t.Error("after its end an attempt is still waited for")
			}
		})
	}
}
