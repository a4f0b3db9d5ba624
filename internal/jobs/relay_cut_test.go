package jobs

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestRelaySurvivesEveryCut lets every fault strike every message between a
// relay and Postgres, one after the other: the message is cut off, torn or
// held, or its answer is. Each time it is the first relay of its process.
// Another process relays meanwhile, if the first one is held, and then the
// rest. Afterwards every job was moved, and none twice (I19, I20).
func TestRelaySurvivesEveryCut(t *testing.T) {
	t.Parallel()
	const atLeast = 14 // messages of a first relay; there is one more where a connection has been idle and is tried first
	messages := recordRelay(t, setup(t))
	if len(messages) < atLeast {
		t.Fatalf("a relay sends %d messages, want at least %d", len(messages), atLeast)
	}
	for _, kind := range wire.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b, trials := setup(t), 0
			other := b.client(t, nil, b.deliver)
			for n, m := range messages {
				parts := map[wire.Kind]int{wire.CutPart: m.frames - 1, wire.CutAnswer: m.answer - 1}
				tears, torn := parts[kind]
				for part := 1; part <= tears || !torn && part == 1; part++ {
					if !b.cutRelay(t, other, n+1, wire.Fault{Kind: kind, Part: part}) && n < atLeast {
						t.Errorf("message %d never came", n+1)
					}
					trials++
				}
			}
			t.Logf("%d faults at %d messages", trials, len(messages))
		})
	}
}

// A relayMessage is a message of a relay, with the frames of it and of its
// answer.
type relayMessage struct{ frames, answer int }

// recordRelay returns the messages of a process's first relay.
func recordRelay(t *testing.T, b *bundle) (messages []relayMessage) {
	t.Helper()
	b.stage(t, "job_", 3)
	w := wire.NewPostgres()
	c := b.client(t, w, b.deliver)
	w.Plan(func(n int, message []byte) wire.Fault {
		messages = append(messages, relayMessage{frames: w.Frames(message)})
		return wire.Fault{Answered: func(frames int) { messages[n-1].answer = frames }}
	})
	if moved, err := c.relay(t.Context()); err != nil || moved != 3 {
		t.Fatalf("a relay moves %d of 3 jobs (%v)", moved, err)
	}
	return messages
}

// cutRelay relays three jobs with a fault at the n-th message, and reports
// whether there was one.
func (b *bundle) cutRelay(t *testing.T, other *Client, n int, fault wire.Fault) bool {
	t.Helper()
	b.exec(t, `DELETE FROM river.river_job`)
	b.stage(t, "job_", 3)
	var struck atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	fault.Hold = func() { close(held); <-release }
	w := wire.NewPostgres()
	c := b.client(t, w, b.deliver)
	w.Plan(func(at int, _ []byte) wire.Fault {
		if at != n {
			return wire.Fault{}
		}
		struck.Store(true)
		return fault
	})
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = c.relay(context.Background()) }() // what it says may be wrong, as its connection broke
	select {
	case <-held:
		if _, err := other.relay(t.Context()); err != nil {
			t.Errorf("message %d, %s: meanwhile another relay fails: %v", n, fault.Kind, err)
		}
		close(release)
	case <-ended:
	}
	<-ended
	w.Wait()
	// The server may take a moment to end the cut transaction.
	pgtest.Eventually(t, "another process relays the rest", func() bool {
		_, err := other.relay(t.Context())
		return err == nil && value[int](t, b, `SELECT count(*) FROM staged_jobs`) == 0
	})
	if b.checkRelayed(t, "job_", 3); t.Failed() {
		t.Fatalf("message %d, %s, part %d", n, fault.Kind, fault.Part)
	}
	return struck.Load()
}
