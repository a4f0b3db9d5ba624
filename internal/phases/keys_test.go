package phases

import (
	"testing"
	"time"
)

// heldKey returns the state of a key that an attempt has claimed with the token
// A, and a look-up that was sent since and shows it so.
func heldKey() (*keyState, *lookUp) {
	token, sent := "A", startStopwatch()
	held := &lookUp{sent: sent, found: &reading{now: sent.wall}}
	ends := sent.wall.Add(time.Hour)
	held.found.token, held.found.leasedUntil = &token, &ends
	return &keyState{attempts: 1, holder: token, heldSince: sent.monotonic.Add(-time.Second)}, held
}

// TestMemoryAgesWhileTheMachineIsSuspended: when it goes on, another process may
// have finished the key long ago.
func TestMemoryAgesWhileTheMachineIsSuspended(t *testing.T) {
	t.Parallel()
	state, held := heldKey()
	state.note(held)
	if !state.isHeld() {
		t.Fatal("a key that is held isn't")
	}
	state.age.wall = state.age.wall.Add(-2 * time.Hour) // in which the monotonic clock stood still
	if state.isHeld() {
		t.Error("after two hours a lease of one hour still counts")
	}
}

// TestATakenKeyStaysTaken: a look-up shows that somebody has taken the key, and
// its client is told so. An older one, which arrives late, must not deny that.
func TestATakenKeyStaysTaken(t *testing.T) {
	t.Parallel()
	another := "B"
	for name, found := range map[string]*reading{
		"parked": {}, "claimed": {row: row{token: &another}}, "gone": nil,
	} {
		state, held := heldKey()
		state.note(&lookUp{sent: startStopwatch(), found: found})
		if state.note(held); state.isHeld() {
			t.Errorf("%s: an older look-up shows that it is held", name)
		}
		state, held = heldKey()
		state.note(&lookUp{sent: stopwatch{monotonic: state.heldSince.Add(-time.Minute)}, found: found})
		if state.note(held); !state.isHeld() {
			t.Errorf("%s: a look-up that was sent before the claim ends it", name)
		}
	}
}
