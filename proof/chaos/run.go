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

// A run is one run of chaos, from the first request to the verdict.
type run struct {
	options
	out      io.Writer
	schedule schedule
	system   *system
	clients  *clients
	nemesis  *nemesis
	journals []*journal
	start    time.Time
	// faultless is when the last fault ended.
	faultless time.Time
	// facts is what the verdict is about.
	facts *facts
}

// play runs the clients and the nemesis until the end of the schedule.
func (r *run) play(ctx context.Context) error {
	r.start = time.Now()
	r.clients = newClients([]string{clientLink("api-1"), clientLink(newestAPI)}, r.system.apiURLs(), r.system.accounts)
	r.nemesis = newNemesis(r.system, r.start)
	running, stop := context.WithCancel(ctx)
	defer stop()
	var asking, watch sync.WaitGroup
	for range r.Clients {
		one, err := r.newClient()
		if err != nil {
			return err
		}
		asking.Go(func() { one.live(running, r.Think) })
	}
	watch.Go(func() { r.progress(running) })
	err := r.nemesis.run(ctx, r.schedule)
	stop()
	r.faultless = time.Now()
	asking.Wait()
	watch.Wait()
	return err
}

// newClient returns a client with a journal of its own.
func (r *run) newClient() (*client, error) {
	id := len(r.journals)
	j, err := newJournal(r.system.history(), id, r.start)
	if err != nil {
		return nil, err
	}
	r.journals = append(r.journals, j)
	return newClient(r.clients, r.Seed, id, j), nil
}

// progress prints a line every few seconds, until ctx ends.
func (r *run) progress(ctx context.Context) {
	const every = 5 * time.Second
	fmt.Fprintf(r.out, "%7s %9s %7s %6s %9s %7s %11s\n", "elapsed", "requests", "per s", "kills", "Pg kills", "frozen", "unfinished")
	for before := int64(0); ctx.Err() == nil; {
		_ = pause.For(ctx, every)
		unfinished := "?"
		if n, err := r.system.database.unfinished(ctx); err == nil {
			unfinished = strconv.Itoa(n)
		}
		now := r.clients.requests.Load()
		fmt.Fprintf(r.out, "%6.0fs %9d %7.0f %6d %9d %7d %11s\n", time.Since(r.start).Seconds(), now,
			float64(now-before)/every.Seconds(), r.kills(), r.postgresKills(), r.nemesis.tally(freezeWorker), unfinished)
		before = now
	}
}

func (r *run) kills() int { return r.nemesis.tally(killWorker, measuredKill, killStripe) }

func (r *run) postgresKills() int { return r.nemesis.tally(killPostgres, killPostmaster, stopPostgres) }

// judge waits until everything is at rest, and checks everything.
func (r *run) judge(ctx context.Context) ([]check, error) {
	if err := r.system.rest(ctx, restBound+process.ReadyTimeout, r.system.database.unsettled); err != nil {
		return nil, err
	}
	took := time.Since(r.faultless)
	if err := r.system.restEvents(ctx); err != nil {
		return nil, err
	}
	f, err := r.system.gather(ctx)
	if err != nil {
		return nil, err
	}
	r.facts = f
	asked := r.ops() // without the last round, for the figures about keys that no client used again
	fmt.Fprintf(r.out, "at rest after %.1fs; repeating the requests of all %d keys\n", took.Seconds(), len(f.keys))
	if err := r.askAgain(ctx, f); err != nil {
		return nil, err
	}
	all, err := r.closeJournals()
	if err != nil {
		return nil, err
	}
	lives, panics := r.system.lives()
	log, err := r.system.database.log()
	if err != nil {
		return nil, err
	}
	alarm, err := alarms(log)
	if err != nil {
		return nil, err
	}
	// The last journals are those of the last round.
	checks := checksOf(all, all[len(asked):], f, lives)
	checks = append(checks, alarm, panics, inBound("at rest within the bound after the last fault", took, restBound))
	r.report(f, asked)
	checks = append(checks, r.figures(f, asked)...)
	if r.Duration >= fullRun {
		failEmpty(checks)
	}
	return checks, nil
}

// checksOf checks the whole history, its last round, and the facts.
func checksOf(all, last []*op, f *facts, lives map[string][]life) []check {
	checks := []check{orders(all, f), askedAgain(last, f)}
	checks = append(checks, join(all, f)...)
	checks = append(checks, cancelChecks(all, last, f)...)
	checks = append(checks, eventChecks(f)...)
	return append(checks, logChecks(f, lives)...)
}

// inBound checks that something took no longer than a bound (I16).
func inBound(name string, took, bound time.Duration) check {
	c := newCheck(name, "I16")
	c.looked = 1
	if took > bound {
		c.breaks("it took %s, and may take %s", took, bound)
	}
	return c
}

// ops returns the history so far.
func (r *run) ops() []*op {
	var all []*op
	for _, j := range r.journals {
		j.mu.Lock()
		all = append(all, j.ops...)
		j.mu.Unlock()
	}
	return all
}

// closeJournals closes all journals and returns the whole history.
func (r *run) closeJournals() ([]*op, error) {
	var all []*op
	var errs []error
	for _, j := range r.journals {
		ops, err := j.close()
		all, errs = append(all, ops...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// orders checks that the history of every key is linearizable (I14).
func orders(ops []*op, f *facts) check {
	c := newCheck("the history of every key is linearizable", "I14")
	keys := byKey(ops)
	ids := make(chan rideKey)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range runtime.NumCPU() {
		group.Go(func() {
			for id := range ids {
				result := linearizable(keys[id], f.unparked[id])
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

// clientsOf returns the ids of the clients of some ops.
func clientsOf(ops []*op) []int {
	var ids []int
	for _, o := range ops {
		ids = append(ids, o.Client)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
