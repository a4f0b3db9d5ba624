package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/process"
)

// A run is one run of chaos, from the first process to the verdict.
type run struct {
	options
	out      io.Writer
	schedule schedule
	world    *world
	rank     *rank
	nemesis  *nemesis
	journals []*journal
	start    time.Time
	// faultless is when the last fault had ended.
	faultless time.Time
	// facts are those that the verdict is about.
	facts *facts
}

// play has the clients ask and the nemesis act, until the schedule's end.
func (r *run) play(ctx context.Context) error {
	r.start = time.Now()
	r.rank = newRank([]string{clientLink("api-1"), clientLink(newestAPI)}, r.world.apiURLs(), r.world.accounts)
	r.nemesis = newNemesis(r.world, r.start)
	riding, stop := context.WithCancel(ctx)
	defer stop()
	var riders, watch sync.WaitGroup
	for i := range r.Clients {
		rider, err := r.newRider(i)
		if err != nil {
			return err
		}
		riders.Go(func() { rider.live(riding, r.Think) })
	}
	watch.Go(func() { r.progress(riding) })
	err := r.nemesis.run(ctx, r.schedule)
	stop()
	r.faultless = time.Now()
	riders.Wait()
	watch.Wait()
	return err
}

func (r *run) newRider(id int) (*rider, error) {
	j, err := newJournal(r.world.history(), id, r.start)
	if err != nil {
		return nil, err
	}
	r.journals = append(r.journals, j)
	return newRider(r.rank, r.Seed, id, j), nil
}

// progress writes a line every few seconds.
func (r *run) progress(ctx context.Context) {
	const every = 5 * time.Second
	fmt.Fprintf(r.out, "%7s %9s %7s %6s %9s %7s %11s\n", "elapsed", "requests", "per s", "kills", "Pg kills", "frozen", "unfinished")
	for before := int64(0); ctx.Err() == nil; {
		_ = pause.For(ctx, every)
		unfinished := "?"
		if n, err := r.world.database.unfinished(ctx); err == nil {
			unfinished = strconv.Itoa(n)
		}
		now := r.rank.requests.Load()
		fmt.Fprintf(r.out, "%6.0fs %9d %7.0f %6d %9d %7d %11s\n", time.Since(r.start).Seconds(), now,
			float64(now-before)/every.Seconds(), r.kills(), r.postgresKills(), r.nemesis.tally(freezeWorker), unfinished)
		before = now
	}
}

func (r *run) kills() int { return r.nemesis.tally(killWorker, measuredKill, killStripe) }

func (r *run) postgresKills() int { return r.nemesis.tally(killPostgres, killPostmaster, stopPostgres) }

// judge waits for rest and checks everything.
func (r *run) judge(ctx context.Context) ([]check, error) {
	if err := r.world.rest(ctx, restBound+process.ReadyTimeout); err != nil {
		return nil, err
	}
	took := time.Since(r.faultless)
	f, err := r.world.gather(ctx)
	if err != nil {
		return nil, err
	}
	r.facts = f
	asked := r.ops() // what the figures are about: keys that nobody asked for again
	fmt.Fprintf(r.out, "at rest after %.1fs; asking for all %d keys once more\n", took.Seconds(), len(f.keys))
	if err := r.askAgain(ctx, f); err != nil {
		return nil, err
	}
	all, err := r.closeJournals()
	if err != nil {
		return nil, err
	}
	lives, panics := r.world.lives()
	log, err := r.world.database.log()
	if err != nil {
		return nil, err
	}
	alarm, err := alarms(log)
	if err != nil {
		return nil, err
	}
	// The last journals are those of the last round.
	checks := []check{orders(all), askedAgain(all[len(asked):], f)}
	checks = append(checks, join(all, f)...)
	checks = append(checks, logChecks(f, lives)...)
	checks = append(checks, alarm, panics, inBound("at rest within the bound after the last fault", took, restBound))
	r.report(f, asked)
	checks = append(checks, r.figures(f, asked)...)
	if r.Duration >= fullRun {
		demand(checks)
	}
	return checks, nil
}

func inBound(name string, took, bound time.Duration) check {
	c := newCheck(name, "I16")
	c.looked = 1
	if took > bound {
		c.breaks("it took %s, and may take %s", took, bound)
	}
	return c
}

// ops is the history so far.
func (r *run) ops() []*op {
	var all []*op
	for _, j := range r.journals {
		j.mu.Lock()
		all = append(all, j.ops...)
		j.mu.Unlock()
	}
	return all
}

func (r *run) closeJournals() ([]*op, error) {
	var all []*op
	var errs []error
	for _, j := range r.journals {
		ops, err := j.close()
		all, errs = append(all, ops...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// orders checks that the history of every key has an order that explains it
// (I14).
func orders(ops []*op) check {
	c := newCheck("the history of every key is linearizable", "I14")
	keys := byKey(ops)
	ids := make(chan rideKey)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range runtime.NumCPU() {
		group.Go(func() {
			for id := range ids {
				result := linearizable(keys[id])
				mu.Lock()
				c.looked++
				switch result {
				case porcupine.Ok:
				case porcupine.Illegal:
					c.breaks("%s: no order explains %d requests; see the histories of clients %v", id, len(keys[id]), clientsOf(keys[id]))
				case porcupine.Unknown:
					c.breaks("%s: %d requests are too many to decide", id, len(keys[id]))
				}
				mu.Unlock()
			}
		})
	}
	for id := range keys {
		ids <- id
	}
	close(ids)
	group.Wait()
	slices.Sort(c.broken)
	return c
}

func clientsOf(ops []*op) []int {
	var ids []int
	for _, o := range ops {
		ids = append(ids, o.Client)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
