package phases_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// A crowd is some requests whose last transactions are ready while another one
// is on its way, so that they share a COMMIT.
type crowd struct {
	keys    []string // those that share
	results map[string]error
}

// The crowd waits for one transaction, and is too small to go without waiting.
const (
	ahead     = 1
	crowdSize = 6
)

// gather runs a crowd. When its transactions wait for company, prepare is
// called with its keys. fault then strikes what they send first.
func (b *bundle) gather(t *testing.T, fault wire.Fault, prepare func(keys []string)) crowd {
	t.Helper()
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		b.wire.Summary(message) // it must see what is prepared
		return wire.Fault{}
	})
	b.mustRun(t, "warm")
	waiting := b.engine.Gathering(time.Minute)
	first, rest, free := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var booked atomic.Int32
	var held sync.WaitGroup
	held.Add(ahead)
	already := len(b.carrier.sent())
	b.carrier.set(hooks{before: func(_ context.Context, n int) error {
		booked.Add(1)
		if n <= already+ahead {
			<-first
		} else {
			<-rest
		}
		return nil
	}})

	c := crowd{results: map[string]error{}}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range ahead + crowdSize {
		group.Go(func() {
			key := fmt.Sprint("c", i)
			_, err := b.run(t, key)
			mu.Lock()
			defer mu.Unlock()
			c.results[key] = err
		})
	}
	pgtest.Eventually(t, "all have booked", func() bool { return booked.Load() == ahead+crowdSize })
	b.carrier.set(hooks{})
	for _, s := range b.carrier.sent()[already+ahead:] {
		c.keys = append(c.keys, strings.TrimPrefix(s.form, "parcel="))
	}
	holding, struck := 0, false
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		switch n := strings.Count(b.wire.Summary(message), "run UPDATE idempotency_keys"); {
		case n == 1 && holding < ahead:
			holding++
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() { held.Done(); <-free }}
		case n > 1 && !struck:
			struck = true
			return fault
		default:
			return wire.Fault{}
		}
	})
	close(first)
	held.Wait()
	close(rest)
	pgtest.Eventually(t, "the crowd waits", func() bool { return waiting() == crowdSize })
	if prepare != nil {
		prepare(c.keys)
	}
	close(free)
	group.Wait()
	b.wire.Plan(wire.Nothing)
	if !struck && b.carrier.poison == nil {
		t.Error("no two transactions were sent together")
	}
	return c
}

// Six transactions that are ready while others are on their way share a COMMIT.
func TestReadyTransactionsShareACommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.gather(t, wire.Fault{}, nil)
	for key, err := range c.results {
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		b.checkDone(t, key)
	}
	pgtest.NotOnCitus(t, "it counts transactions with a trigger")
	if n := value[int](t, b, `SELECT count(DISTINCT xid) FROM phase_log WHERE key = ANY($1) AND to_point = 'finished'`, c.keys); n != 1 {
		t.Errorf("six transactions took %d commits", n)
	}
}

// A transaction that several share is cut in every way. What became of it is
// in doubt for each of them, and each must come to its one end.
func TestACutWhereTransactionsAreGathered(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.Kind{wire.CutBefore, wire.CutAfter, wire.CutSent, wire.CutPart, wire.CutAnswer} {
		for _, part := range []int{1, 9, 30} {
			t.Run(fmt.Sprint(kind, part), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				c := b.gather(t, wire.Fault{Kind: kind, Part: part}, nil)
				b.wire.Wait()
				for key, err := range c.results {
					if err == nil {
						b.checkDone(t, key) // what was answered is so
					} else if !errors.Is(err, phases.ErrUnavailable) {
						t.Errorf("%s: %v", key, err)
					}
				}
				for key := range c.results {
					b.recover(t, "both", key)
					b.checkDone(t, key)
				}
			})
		}
	}
}

// One of six has lost its key to another worker, which has not finished it.
// The five others must not notice, and the one must not have written anything.
func TestAFenceWhereTransactionsAreGathered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stolen := ""
	c := b.gather(t, wire.Fault{}, func(keys []string) {
		stolen = keys[3]
		b.exec(t, `UPDATE idempotency_keys SET lease_token = '00000000-0000-4000-8000-000000000001', lease_epoch = lease_epoch + 1 WHERE key = $1`, stolen)
	})
	for key, err := range c.results {
		switch {
		case key != stolen && err != nil:
			t.Errorf("%s: %v", key, err)
		case key != stolen:
			b.checkDone(t, key)
		case !errors.Is(err, phases.ErrInUse):
			t.Errorf("the one whose key was stolen got %v", err)
		}
	}
	if got := value[int](t, b, `SELECT writes FROM parcels WHERE key = $1`, stolen); got != 1 {
		t.Errorf("the one whose key was stolen has written %d times, want 1", got)
	}
}

// The row of one of six is locked for as long as the others take. They don't
// wait for it.
func TestALockWhereTransactionsAreGathered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var others sync.WaitGroup
	c := b.gather(t, wire.Fault{}, func(keys []string) {
		if _, err := tx.Exec(t.Context(), `SELECT FROM idempotency_keys WHERE account_id = 'acct_1' AND key = $1 FOR UPDATE`, keys[0]); err != nil {
			t.Error(err)
		}
		others.Go(func() {
			pgtest.Eventually(t, "the others are finished", func() bool {
				return value[int](t, b, `SELECT count(*) FROM idempotency_keys WHERE key LIKE 'c%' AND finished_at IS NOT NULL`) == ahead+crowdSize-1
			})
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	others.Wait()
	for key, err := range c.results {
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		b.checkDone(t, key)
	}
}

// hold makes the first transactions that insert a key hang until free is closed,
// and returns what waits until the next of them hangs.
func (b *bundle) hold(transactions int, free <-chan struct{}) (hangs func()) {
	held := make(chan struct{})
	holding := 0
	b.wire.Plan(func(_ int, message []byte) wire.Fault {
		if strings.Contains(b.wire.Summary(message), "run INSERT INTO idempotency_keys") && holding < transactions {
			holding++
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() { held <- struct{}{}; <-free }}
		}
		return wire.Fault{}
	})
	return func() { <-held }
}

// Three transactions hang, one after the other. Another request comes to its
// end all the same.
func TestTransactionsThatHangHoldUpNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const hanging = 3
	free := make(chan struct{})
	hangs := b.hold(hanging, free)
	var group sync.WaitGroup
	for i := range hanging {
		group.Go(func() { _, _ = b.run(t, fmt.Sprint("hanging", i)) })
		hangs()
	}
	start := time.Now()
	b.mustRun(t, "k")
	if took := time.Since(start); took > 6*time.Second { // a transaction may hang for 8 seconds
		t.Errorf("it took %s", took)
	}
	close(free)
	group.Wait()
}

// Enough transactions for a group of their own wait for none that is on its way.
func TestEnoughTransactionsWaitForNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.engine.Gathering(time.Minute)
	free := make(chan struct{})
	hangs := b.hold(1, free)
	var hanging, group sync.WaitGroup
	hanging.Go(func() { _, _ = b.run(t, "hanging") })
	hangs()
	start := time.Now()
	for i := range phases.Company {
		group.Go(func() {
			if _, err := b.run(t, fmt.Sprint("k", i)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	close(free)
	hanging.Wait()
}

// One of six has an argument that can't be sent, or that panics when it is
// encoded, before anything of the six is sent. The five others are answered all
// the same, without a doubt.
func TestAPoisonedArgumentWhereTransactionsAreGathered(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]any{"unsendable": make(chan int), "panics": panics{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.poison, b.carrier.poisonAt = poison, 1+ahead+3 // behind that of "warm", and of those that go first
			c := b.gather(t, wire.Fault{}, nil)
			for key, err := range c.results {
				switch {
				case key == c.keys[2] && err == nil:
					t.Error("the poisoned one succeeded")
				case key != c.keys[2] && err != nil:
					t.Errorf("%s: %v", key, err)
				case key != c.keys[2]:
					b.checkDone(t, key)
				}
			}
			if n := value[int](t, b, `SELECT count(*) FROM audit_records WHERE action = 'key.barrier'`); n > 0 {
				t.Errorf("there were %d doubts", n)
			}
		})
	}
}

// panics panics when it is encoded.
type panics struct{}

func (panics) Value() (driver.Value, error) { panic("poisoned") }

// Transactions of two accounts share no COMMIT if the engine is told so. Then
// they don't wait for those of others either.
func TestAccountsMayShareNothing(t *testing.T) {
	t.Parallel()
	for _, one := range []bool{false, true} {
		t.Run(strconv.FormatBool(one), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.engine = b.newEngine(t, b.wire, func(c *phases.Config) { c.OneAccount = one })
			waiting := b.engine.Gathering(time.Minute)
			free := make(chan struct{})
			hangs := b.hold(ahead, free)
			var group sync.WaitGroup
			run := func(account string) {
				r := request("k")
				r.Account = account
				group.Go(func() {
					if _, err := b.engine.Run(t.Context(), b.flow, r); err != nil {
						t.Errorf("%s: %v", account, err)
					}
				})
			}
			for i := range ahead {
				run(fmt.Sprint("acct_1", i))
			}
			hangs()
			run("acct_2")
			run("acct_3")
			const finished = `SELECT count(*) FROM idempotency_keys WHERE account_id IN ('acct_2', 'acct_3') AND finished_at IS NOT NULL`
			pgtest.Eventually(t, "the other accounts' keys are where they belong", func() bool { return one && value[int](t, b, finished) == 2 || !one && waiting() == 2 })
			close(free)
			group.Wait()
			pgtest.NotOnCitus(t, "it counts transactions with a trigger")
			n := value[int](t, b, `SELECT count(DISTINCT xid) FROM phase_log WHERE account_id IN ('acct_2', 'acct_3') AND to_point = $1`, packed)
			if want := map[bool]int{false: 1, true: 2}[one]; n != want {
				t.Errorf("two accounts took %d commits, want %d", n, want)
			}
		})
	}
}
