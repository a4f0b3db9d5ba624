package phases_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// hangLookUp has the look-up of the key done-0 hang. Of what is sent from then
// on, the first message with more than one look-up meets fault, and n counts
// those with one. free lets the look-up go on.
func (b *bundle) hangLookUp(t *testing.T, fault wire.Fault) (n func() (together, alone int), free func()) {
	t.Helper()
	var mu sync.Mutex
	var hangs bool
	var together, alone int
	var group sync.WaitGroup
	held, goOn := make(chan struct{}), make(chan struct{})
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		mu.Lock()
		defer mu.Unlock()
		switch n := strings.Count(b.wire.Summary(message), "run SELECT FROM idempotency_keys"); {
		case n == 1 && !hangs:
			hangs = true
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() { close(held); <-goOn }}
		case n == 1:
			alone++
		case n > 1:
			if together++; together == 1 {
				return fault
			}
		}
		return wire.Fault{}
	})
	group.Go(func() { b.mustRun(t, "done-0") })
	<-held
	counts := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return together, alone
	}
	return counts, func() { close(goOn); group.Wait() }
}

// finished makes n keys that are finished, while both of the wire and the
// test look at what is sent.
func (b *bundle) finished(t *testing.T, n int) {
	t.Helper()
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		b.wire.Summary(message) // it must see what is prepared
		return wire.Fault{}
	})
	for i := range n {
		b.mustRun(t, fmt.Sprint("done-", i))
	}
}

// Three look-ups come while one is on its way, and travel together.
// Whatever becomes of one of them, the others are answered.
func TestLookUpsTravelTogether(t *testing.T) {
	t.Parallel()
	slow := wire.Fault{Kind: wire.HoldBefore, Hold: func() { <-time.After(phases.GatherTimeout + time.Second) }}
	for name, test := range map[string]struct {
		third           string
		gone            bool
		fault           wire.Fault
		together, alone int
	}{
		"all are answered":       {third: "done-0", together: 1},
		"one fails":              {third: "\x00", together: 1, alone: 3},
		"one is given up":        {third: "done-0", gone: true, together: 1},
		"the connection is lost": {third: "done-0", fault: wire.Fault{Kind: wire.CutBefore}, together: 2},
		"the connection hangs":   {third: "done-0", fault: slow, together: 1, alone: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.finished(t, 3)
			b.engine.Gathering(time.Minute)
			sent, free := b.hangLookUp(t, test.fault)
			var group sync.WaitGroup
			for i := range 2 {
				group.Go(func() {
					if got := b.mustRun(t, fmt.Sprint("done-", 1+i)); !got.Replayed {
						t.Errorf("it wasn't looked up: %+v", got)
					}
				})
			}
			third, giveUp := context.WithCancel(t.Context())
			var err error
			over := make(chan struct{})
			go func() {
				defer close(over)
				_, err = b.engine.Run(third, b.flow, request(test.third))
			}()
			pgtest.Eventually(t, "three look-ups wait", func() bool { return b.engine.LookUpsWaiting() == 3 })
			if test.gone {
				giveUp()
				<-over
			}
			free()
			group.Wait()
			<-over
			giveUp()
			switch {
			case test.gone && !errors.Is(err, context.Canceled), test.third == "\x00" && !errors.As(err, new(*pgconn.PgError)),
				!test.gone && test.third != "\x00" && err != nil:
				t.Errorf("the third one got %v", err)
			}
			if together, alone := sent(); together != test.together || alone != test.alone {
				t.Errorf("%d groups and %d look-ups alone were sent, want %d and %d", together, alone, test.together, test.alone)
			}
		})
	}
}

// TestALookUpThatHangsHoldsUpNoOther: what comes while it hangs waits for a
// moment, and goes without it.
func TestALookUpThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.finished(t, 2)
	_, free := b.hangLookUp(t, wire.Fault{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // less than a look-up may take
	defer cancel()
	if _, err := b.engine.Run(ctx, b.flow, request("done-1")); err != nil {
		t.Errorf("beside a look-up that hangs: %v", err)
	}
	free()
}

// TestEnoughLookUpsWaitForNoOther: they go together beside one that hangs.
func TestEnoughLookUpsWaitForNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.finished(t, 1+phases.Company)
	b.engine.Gathering(time.Minute)
	sent, free := b.hangLookUp(t, wire.Fault{})
	var group sync.WaitGroup
	for i := range phases.Company {
		group.Go(func() { b.mustRun(t, fmt.Sprint("done-", 1+i)) })
	}
	group.Wait()
	if together, alone := sent(); together != 1 || alone != 0 {
		t.Errorf("%d groups and %d look-ups alone were sent, want one group", together, alone)
	}
	free()
}
