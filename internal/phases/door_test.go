package phases_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// A server serves one request after the other, each in the same time.
type server struct {
	enter   func() (func(), bool)
	line    chan visitor
	done    chan struct{} // all in line were served
	waits   []time.Duration
	refused int
}

type visitor struct {
	since   time.Time
	through func()
}

func serve(each time.Duration) *server {
	s := &server{enter: phases.NewDoor(), line: make(chan visitor, 100_000), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for v := range s.line {
			time.Sleep(each)
			v.through()
			s.waits = append(s.waits, time.Since(v.since))
		}
	}()
	return s
}

// offer sends n requests, one every pause, and waits until those are served
// that were let in.
func (s *server) offer(n int, pause time.Duration) {
	for range n {
		if through, ok := s.enter(); ok {
			s.line <- visitor{time.Now(), through}
		} else {
			s.refused++
		}
		time.Sleep(pause)
	}
	close(s.line)
	<-s.done
}

// However many come, as many are served as without a door, nobody waits for
// much longer than is promised, and soon after the flood there is no trace of
// it.
func TestTheDoorKeepsTheRate(t *testing.T) {
	t.Parallel()
	for _, each := range []time.Duration{time.Millisecond, 5 * time.Millisecond} {
		for _, times := range []int{2, 10} {
			synctest.Test(t, func(t *testing.T) {
				s := serve(each)
				start := time.Now()
				const flood = 4 * time.Second
				s.offer(int(flood/each)*times, each/time.Duration(times))
				if got, want := len(s.waits), int(flood/each); got < want {
					t.Errorf("%d times as many came, each takes %s: %d were served, want %d", times, each, got, want)
				}
				if longest := maxOf(s.waits); longest > phases.MaxDelay*3/2 || time.Since(start) > flood+2*time.Second {
					t.Errorf("%d times as many came, each takes %s: one waited %s, and all took %s", times, each, longest, time.Since(start))
				}
			})
		}
	}
}

func maxOf(all []time.Duration) (longest time.Duration) {
	for _, d := range all {
		longest = max(longest, d)
	}
	return longest
}

// As many as can be served at once come every second: nobody is refused.
func TestTheDoorIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(time.Millisecond)
		s.offer(4000, 1010*time.Microsecond)
		if s.refused > 0 {
			t.Errorf("%d of 4000 were refused", s.refused)
		}
	})
}

// Few come for a while, and each takes its time, because nobody waits for
// another one. Then many come at once, as have before: none is refused.
func TestTheDoorRemembersACrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enter := phases.NewDoor()
		crowd := func(n int) (refused int) {
			var inside sync.WaitGroup
			for range n {
				through, ok := enter()
				if !ok {
					refused++
					continue
				}
				inside.Go(func() { time.Sleep(20 * time.Millisecond); through() })
			}
			inside.Wait()
			return refused
		}
		crowd(phases.AlwaysIn)
		for range 100 {
			crowd(1)
		}
		if refused := crowd(4 * phases.AlwaysIn); refused > 0 {
			t.Errorf("%d of %d were refused", refused, 4*phases.AlwaysIn)
		}
	})
}

// A few come again and again. Then the database stops for a moment, so that
// many come before one of them gets through: none is refused.
func TestTheDoorLearnsFromAFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := serve(200 * time.Microsecond)
		s.offer(1000, 400*time.Microsecond)
		for i := range 4 * phases.AlwaysIn {
			if _, ok := s.enter(); !ok {
				t.Fatalf("%d are inside, and the next one is refused", i)
			}
		}
	})
}

// Some are fast beside many that take their time: 730 get through in a second,
// all together. Then the database stops. About as many are let in as get through
// in a second, and not as many as the fast ones alone would make believe.
func TestTheDoorCountsWhoGetsThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enter, stop := phases.NewDoor(), make(chan struct{})
		visit := func(took time.Duration) {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if through, ok := enter(); ok {
					time.Sleep(took)
					through()
				}
			}
		}
		var group sync.WaitGroup
		for i := range 40 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 2500 * time.Microsecond)
				visit(100 * time.Millisecond)
			})
		}
		group.Go(func() { visit(3 * time.Millisecond) })
		time.Sleep(10 * time.Second)
		close(stop)
		group.Wait()
		if in := letIn(enter); in < 500 || in > 1500 {
			t.Errorf("%d were let in", in)
		}
	})
}

// TestTheDoorHasALimit: the database answers at once for a while, and then stops.
func TestTheDoorHasALimit(t *testing.T) {
	t.Parallel()
	enter := phases.NewDoor()
	for range 1000 {
		through, _ := enter()
		through()
	}
	if in := letIn(enter); in != phases.MostIn {
		t.Errorf("%d were let in, want %d", in, phases.MostIn)
	}
}

// letIn returns how many are let in while nobody gets through.
func letIn(enter func() (func(), bool)) (in int) {
	for ok := true; ok && in < 100_000; in++ {
		_, ok = enter()
	}
	return in - 1
}

// Some get stuck, for instance at a lock. Others are let in.
func TestTheDoorStaysOpenBesideStuckRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		enter := phases.NewDoor()
		for range phases.AlwaysIn - 1 {
			if _, ok := enter(); !ok {
				t.Fatal("the door is closed")
			}
		}
		time.Sleep(time.Minute)
		for range 10_000 {
			through, ok := enter()
			if !ok {
				t.Fatal("the door is closed to all others")
			}
			through()
		}
	})
}

// TestWhatHasBegunEnds: all look-ups hang, and so many requests wait for theirs
// that further ones are refused. What has begun comes to its end.
func TestWhatHasBegunEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine = b.newEngine(t, nil, fewConnections(t, b))
	b.mustRun(t, "warm")
	called, answer, free := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error {
		close(called)
		<-answer
		return nil
	}})
	begun := make(chan error)
	go func() {
		_, err := b.run(t, "begun")
		begun <- err
	}()
	<-called
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		if bytes.Contains(message, []byte("other-")) {
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() { <-free }}
		}
		return wire.Fault{}
	})
	var others sync.WaitGroup
	for i := range 3 * phases.AlwaysIn {
		others.Go(func() {
			if _, err := b.run(t, fmt.Sprint("other-", i)); err != nil && !errors.Is(err, phases.ErrBusy) && !errors.Is(err, phases.ErrUnavailable) {
				t.Errorf("one that had to wait got %v", err)
			}
		})
	}
	pgtest.Eventually(t, "the engine is crowded", func() bool { return errors.Is(b.engine.Crowded(), phases.ErrBusy) })
	pgtest.Eventually(t, "all places are taken", b.engine.PlacesTaken)
	close(answer)
	if err := <-begun; err != nil {
		t.Errorf("what had begun got %v", err)
	}
	b.carrier.set(hooks{})
	close(free)
	others.Wait()
	b.wire.Plan(wire.Nothing)
	if err := b.engine.Crowded(); err != nil {
		t.Errorf("after all are through: %v", err)
	}
	b.mustRun(t, "k")
}

// TestClaimsLeaveConnections: the claims of abandoned keys hang, and there are
// more of them than connections. What has begun comes to its end.
func TestClaimsLeaveConnections(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const connections, keys = 4, 20
	b.abandon(t, keys)
	b.engine = b.newEngine(t, nil, fewConnections(t, b))
	called, answer, free := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.carrier.set(hooks{before: func(context.Context, int) error {
		close(called)
		<-answer
		return nil
	}})
	begun := make(chan error)
	go func() {
		_, err := b.run(t, "begun")
		begun <- err
	}()
	<-called
	b.carrier.set(hooks{})
	hangs := make(chan struct{}, keys)
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		if !strings.HasPrefix(b.wire.Summary(message), "run UPDATE idempotency_keys") {
			return wire.Fault{}
		}
		return wire.Fault{Kind: wire.HoldBefore, Hold: func() { hangs <- struct{}{}; <-free }}
	})
	var claims sync.WaitGroup
	for i := range keys {
		claims.Go(func() {
			if _, err := b.run(t, fmt.Sprint("k", i)); err != nil && !errors.Is(err, phases.ErrUnavailable) {
				t.Errorf("one that had to wait got %v", err)
			}
		})
	}
	for range connections / 2 {
		<-hangs
	}
	pgtest.Eventually(t, "all places are taken", b.engine.PlacesTaken)
	close(answer)
	if err := <-begun; err != nil {
		t.Errorf("what had begun got %v", err)
	}
	close(free)
	claims.Wait()
}

func TestWhatHasBegunIsGatheredFirst(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]int{1, 4, 0, 2, 3}, phases.GatheringOrder(false, true, false, false, true)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// However many new requests ask somebody else at once, who takes his time,
// others are let in.
func TestWhoAsksIsNotAtTheDoor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const many = 2 * phases.AlwaysIn
	asked, answer, refused := make(chan struct{}), make(chan struct{}), make(chan error, many)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(answer)
	unwanted := errors.New("unwanted")
	for i := range many {
		asks := request(fmt.Sprint("asks-", i))
		asks.Ask = func() error {
			asked <- struct{}{}
			<-answer
			return unwanted
		}
		asking.Go(func() {
			_, err := b.engine.Run(t.Context(), b.flow, asks)
			refused <- err
		})
		select {
		case <-asked:
		case err := <-refused:
			t.Fatalf("beside %d others that ask, one got %v", i, err)
		}
	}
	b.mustRun(t, "k")
	answer <- struct{}{}
	if err := <-refused; !errors.Is(err, unwanted) {
		t.Errorf("who was told no got %v", err)
	}
	if n := value[int](t, b, `SELECT count(*) FROM idempotency_keys`); n != 1 {
		t.Errorf("%d keys have a row, want only that of k", n)
	}
}
