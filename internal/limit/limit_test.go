package limit_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// offer has a client ask for 250 tokens a second, for a minute, and returns how
// many it got.
func offer(buckets *limit.Buckets, client string) (granted int) {
	for range 60 * 250 {
		if buckets.Take(client).Granted {
			granted++
		}
		time.Sleep(4 * time.Millisecond)
	}
	return granted
}

// In a minute each client gets what the rate says, within 5 %, however much it
// and the others ask for.
func TestARateHoldsOverAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		buckets := limit.NewBuckets(limit.Rate{PerSecond: 100, Burst: 200})
		var group sync.WaitGroup
		for _, client := range []string{"a", "b", "c"} {
			group.Go(func() {
				got := offer(buckets, client)
				if want := 60 * 100; got < want*95/100 || got > want*105/100 {
					t.Errorf("%s got %d tokens in a minute, want %d", client, got, want)
				}
			})
		}
		group.Wait()
	})
}

func TestAQuotaSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		buckets := limit.NewBuckets(limit.Rate{PerSecond: 2, Burst: 4})
		if buckets.Burst() != 4 || buckets.Window() != 2*time.Second {
			t.Errorf("%d tokens in %s, want 4 in 2s", buckets.Burst(), buckets.Window())
		}
		const ms = time.Millisecond
		for i, want := range []limit.Quota{
			{Granted: true, Remaining: 3, Full: 500 * ms},
			{Granted: true, Remaining: 2, Full: 1000 * ms},
			{Granted: true, Remaining: 1, Full: 1500 * ms},
			{Granted: true, Remaining: 0, Full: 2000 * ms, Wait: 500 * ms},
			{Granted: false, Remaining: 0, Full: 2000 * ms, Wait: 500 * ms},
		} {
			if diff := cmp.Diff(want, buckets.Take("a")); diff != "" {
				t.Errorf("quota %d (-want +got):\n%s", i+1, diff)
			}
		}
		time.Sleep(400 * ms)
		if diff := cmp.Diff(limit.Quota{Full: 1600 * ms, Wait: 100 * ms}, buckets.Take("a")); diff != "" {
			t.Errorf("soon (-want +got):\n%s", diff)
		}
		// Who waits as long as it is told to, gets a token.
		time.Sleep(100 * ms)
		if !buckets.Take("a").Granted {
			t.Error("there is no token when there should be one")
		}
		if !buckets.Take("b").Granted {
			t.Error("another client pays for it")
		}
	})
}

// A client that nobody has seen for long is forgotten; one that goes on is not.
func TestClientsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		buckets := limit.NewBuckets(limit.Rate{PerSecond: 0.001, Burst: 1})
		buckets.Take("old")
		buckets.Take("busy")
		for i := range 10_000 {
			buckets.Take(fmt.Sprint("client ", i))
			if i%100 == 0 && buckets.Take("busy").Granted {
				t.Fatal("a client that goes on was forgotten")
			}
		}
		if !buckets.Take("old").Granted {
			t.Error("a client is remembered for ever")
		}
	})
}

// thing returns one of many things to try.
func thing(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8)} }

// A thing that is tried very often at once may turn out to be right.
func TestTriesOfOneThingAreOne(t *testing.T) {
	t.Parallel()
	failures := limit.NewFailures(limit.Rate{PerSecond: 10, Burst: 2})
	var calls []func(bool)
	for i := range 1000 {
		done, ok := failures.Try("a", thing(7))
		if !ok {
			t.Fatalf("try %d of the same thing is refused", i)
		}
		calls = append(calls, done)
	}
	if _, ok := failures.Try("a", thing(8)); !ok {
		t.Error("a second thing is refused")
	}
	if _, ok := failures.Try("a", thing(9)); ok {
		t.Error("a third thing may be tried beside two others, and only two may fail")
	}
	for _, done := range calls {
		done(true)
	}
	if _, ok := failures.Try("a", thing(7)); ok {
		t.Error("what has failed so often may be tried again at once")
	}
}

// However many tries are made at once, no more fail than may; and who doesn't
// fail may try for ever.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failures := limit.NewFailures(limit.Rate{PerSecond: 10, Burst: 100})
		var mu sync.Mutex
		failed, clients := 0, sync.WaitGroup{}
		for i := range 10_000 {
			clients.Go(func() {
				done, ok := failures.Try("a", thing(i))
				if !ok {
					return
				}
				time.Sleep(time.Second)
				mu.Lock()
				failed++
				mu.Unlock()
				done(true)
			})
		}
		clients.Wait()
		if failed != 100 {
			t.Errorf("%d of 10000 tries failed at once, want 100", failed)
		}
		for range 60 * 250 {
			if done, ok := failures.Try("a", thing(0)); ok {
				done(true)
				failed++
			}
			time.Sleep(4 * time.Millisecond)
		}
		if got, want := failed-100, 60*10; got < want*95/100 || got > want*105/100 {
			t.Errorf("%d tries failed in a minute, want %d", got, want)
		}
		for range 10_000 {
			done, ok := failures.Try("b", thing(0))
			if !ok {
				t.Fatal("a client that never fails is refused")
			}
			done(false)
		}
	})
}

func TestNoClientTakesAllPlaces(t *testing.T) {
	t.Parallel()
	places := limit.NewPlaces(64)
	take := func(client string) (n int) {
		for places.Take(client) {
			n++
		}
		return n
	}
	var got []int
	for _, client := range []string{"a", "b", "c", "d", "e", "f"} {
		got = append(got, take(client))
	}
	if diff := cmp.Diff([]int{33, 16, 8, 4, 2, 1}, got); diff != "" {
		t.Errorf("the clients got other shares (-want +got):\n%s", diff)
	}
	if n := take("g"); n != 0 {
		t.Errorf("a client got %d places when none was free", n)
	}
	full := places.Full()
	slices.Sort(full)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e", "f"}, full); diff != "" {
		t.Errorf("others have all they can get (-want +got):\n%s", diff)
	}
	for range 33 {
		places.Give("a")
	}
	if n := take("g"); n != 17 || len(places.Full()) != 1 {
		t.Errorf("of 33 places a client got %d, and %v have all they can get", n, places.Full())
	}
}

// One place, and two, can be taken by one client.
func TestFewPlaces(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 2; n++ {
		places := limit.NewPlaces(n)
		for i := range n {
			if !places.Take("a") {
				t.Errorf("place %d of %d can't be taken", i+1, n)
			}
		}
		if places.Take("a") || places.Take("b") {
			t.Errorf("more than %d places were taken", n)
		}
	}
}
