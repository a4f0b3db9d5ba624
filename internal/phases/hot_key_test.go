package phases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// fewConnections gives an engine a pool of four connections, which go through
// the bundle's wire.
func fewConnections(t *testing.T, b *bundle) option {
	t.Helper()
	return func(c *phases.Config) {
		c.Pool = pgtest.Open(t, postgres.Options{URL: b.url, MaxConns: 4, DialFunc: b.wire.Dial})
	}
}

// TestAHotKeyTakesNoConnectionsFromOthers: forty clients retry a key whose row
// is locked for as long as they try. One of them waits for the lock; the others
// are told at once that the key is in use.
func TestAHotKeyTakesNoConnectionsFromOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_ = b.sendOnce(t, "k", hooks{before: lost})
	engine := b.newEngine(t, nil, fewConnections(t, b))
	if _, err := engine.Run(t.Context(), b.flow, request("warm")); err != nil {
		t.Fatal(err)
	}
	unlock := b.lock(t)
	var clients sync.WaitGroup
	var others atomic.Int32
	took := time.Hour
	// A busy machine may hold up one stranger, but not each of three.
	for try := 0; try < 3 && took > time.Second; try++ {
		for range 40 {
			clients.Go(func() {
				_, err := engine.Run(t.Context(), b.flow, request("k"))
				if !errors.Is(err, phases.ErrInUse) {
					others.Add(1)
				}
			})
		}
		start := time.Now()
		if _, err := engine.Run(t.Context(), b.flow, request(fmt.Sprint("stranger", try))); err != nil {
			t.Errorf("a stranger got %v", err)
		}
		took = time.Since(start)
		clients.Wait()
	}
	unlock()
	if took > time.Second {
		t.Errorf("every stranger waited, the last one for %s", took)
	}
	if n := others.Load(); n > 0 {
		t.Errorf("%d clients were told anything but that the key is in use", n)
	}
}

// TestManyRequestsWithOneKeyCostFewStatements: of 2,000 requests at once one is
// carried out, and the rest share a few look-ups. The first look-ups end when
// all requests are there.
func TestManyRequestsWithOneKeyCostFewStatements(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	var clients, started sync.WaitGroup
	started.Add(2000)
	var aboutTheKey atomic.Int32 // and not about a new connection
	b.wire.Plan(func(n int, message []byte) wire.Fault {
		if bytes.Contains(message, []byte("acct_1")) {
			aboutTheKey.Add(1)
		}
		if n > 2 {
			return wire.Fault{}
		}
		return wire.Fault{Kind: wire.HoldBefore, Hold: started.Wait}
	})
	for range 2000 {
		clients.Go(func() {
			started.Done()
			if _, err := b.run(t, "k"); err != nil && !errors.Is(err, phases.ErrInUse) {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	b.checkDone(t, "k")
	// Mostly it is 5 to 9: two are the parcel's, and the others are look-ups.
	// Requests that run late look for themselves, so that on a busy machine it
	// may be a few more. If nothing were shared it would be 2000.
	got := aboutTheKey.Load()
	t.Logf("2000 requests took %d round trips", got)
	if got < 3 || got > 200 {
		t.Errorf("2000 requests took %d round trips, want at most 200", got)
	}
}

// TestANewKeyIsClaimedOnce: a request has found no row, and is slow. When it
// would insert one, another request has done so, and is still at work. The slow
// one is told so without a statement.
func TestANewKeyIsClaimedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	looked, called, answer := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(called); <-answer; return nil }})
	slow := request("k")
	slow.Check = func() error {
		close(looked)
		<-called
		b.wire.Plan(wire.Nothing)
		return nil
	}
	var clients sync.WaitGroup
	clients.Go(func() {
		if _, err := b.engine.Run(t.Context(), b.flow, slow); !errors.Is(err, phases.ErrInUse) || b.wire.Messages() > 0 {
			t.Errorf("the slow one got %v after %d round trips, want ErrInUse after none", err, b.wire.Messages())
		}
		close(answer)
	})
	<-looked
	clients.Go(func() { b.mustRun(t, "k") })
	clients.Wait()
	b.checkDone(t, "k")
}

// TestALookUpIsNotSharedBackwards: a request that comes after another process
// has answered must not be answered from a look-up that was sent before: its
// client knows better.
func TestALookUpIsNotSharedBackwards(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var warm sync.WaitGroup
	for i := range 2 { // both connections have prepared their statements
		warm.Go(func() { b.mustRun(t, fmt.Sprint("warm", i)) })
	}
	warm.Wait()
	calling, answer := make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error { close(calling); <-answer; return nil }})
	another := b.newEngine(t, nil)
	var clients sync.WaitGroup
	clients.Go(func() { _, _ = another.Run(t.Context(), b.flow, request("k")) })
	<-calling
	// As many look-ups as are made at once have seen that the key is leased,
	// and hang.
	sent, goOn := make(chan struct{}), make(chan struct{})
	b.wire.Plan(func(n int, _ []byte) wire.Fault {
		if n > 2 {
			return wire.Fault{}
		}
		return wire.Fault{Kind: wire.HoldAfter, Hold: func() { sent <- struct{}{}; <-goOn }}
	})
	var early sync.WaitGroup
	for range 2 {
		early.Go(func() { _, _ = b.run(t, "k") })
		<-sent
	}
	close(answer)
	clients.Wait()
	var late phases.Result
	var err error
	early.Go(func() { late, err = b.run(t, "k") })
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) }) // when the late one waits
	early.Wait()
	if err != nil || !late.Replayed {
		t.Errorf("after the answer a request got %+v, %v", late, err)
	}
}

// TestAKeyThatEndsIsLookedUp: a COMMIT that ends a key is done, but its answer
// is slow. Another process has replayed the key's answer meanwhile. A client
// that knows that answer must not be told, from what this process has looked up
// before, that the key is in use.
func TestAKeyThatEndsIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]struct {
		lost   error
		answer string
		want   error
	}{
		"finished": {},
		"released": {lost: errLost},
		"parked":   {answer: "odd", want: phases.ErrParked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			engine := b.newEngine(t, b.wire, func(c *phases.Config) { c.Memory = time.Hour })
			calling, answer := make(chan struct{}), make(chan struct{})
			b.carrier.set(hooks{answer: ends.answer, before: func(_ context.Context, n int) error {
				if n > 1 {
					return nil
				}
				close(calling)
				<-answer
				return ends.lost
			}})
			var clients sync.WaitGroup
			clients.Go(func() { _, _ = engine.Run(t.Context(), b.flow, request("k")) })
			<-calling
			if _, err := engine.Run(t.Context(), b.flow, request("k")); !errors.Is(err, phases.ErrInUse) {
				t.Errorf("while the key is held a request got %v, want ErrInUse", err)
			}
			committed, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			b.wire.Plan(func(_ int, message []byte) (fault wire.Fault) {
				if bytes.Contains(message, []byte("acct_1")) {
					once.Do(func() {
						fault = wire.Fault{Kind: wire.HoldAfter, Hold: func() { close(committed); <-goOn }}
					})
				}
				return fault
			})
			close(answer)
			<-committed
			if _, err := engine.Run(t.Context(), b.flow, request("k")); !errors.Is(err, ends.want) {
				t.Errorf("a request got %v, want %v", err, ends.want)
			}
			close(goOn)
			clients.Wait()
		})
	}
}

// TestNobodyWaitsForLookUpsThatHang: a request that waits for the look-ups of
// others gives up after the time that one look-up may take.
func TestNobodyWaitsForLookUpsThatHang(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustRun(t, "warm")
	sent, goOn := make(chan struct{}), make(chan struct{})
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		if !bytes.Contains(message, []byte("hanging")) {
			return wire.Fault{}
		}
		return wire.Fault{Kind: wire.HoldAfter, Hold: func() { sent <- struct{}{}; <-goOn }}
	})
	var early sync.WaitGroup
	for range 2 {
		early.Go(func() { _, _ = b.run(t, "hanging") })
		<-sent
	}
	patience, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := b.engine.Run(patience, b.flow, request("hanging"))
	if !errors.Is(err, phases.ErrUnavailable) || patience.Err() != nil {
		t.Errorf("got %v, want that the database is unavailable, and sooner", err)
	}
	b.wire.Plan(wire.Nothing)
	close(goOn)
	early.Wait()
}
