package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/pause"
)

// A world is all processes and the links between them.
type world struct {
	dir      string // everything below it goes when the world ends, but for the history
	database *database
	stripe   *stripe
	links    links
	workers  map[string]*worker
	accounts []*account
}

// history is the folder that is kept when a promise was broken.
func (w *world) history() string { return filepath.Join(w.dir, "history") }

// accountsMade is how many accounts there are. Each has a customer of its own:
// the service looks for a lost charge among all of a customer's payments, and
// nobody takes thousands of rides in an hour.
const accountsMade = 240

// openWorld builds the programs and starts everything.
func openWorld(ctx context.Context, dir string, canary bool) (*world, error) {
	w := &world{dir: dir, workers: map[string]*worker{}}
	if err := os.MkdirAll(w.history(), 0o700); err != nil {
		return nil, err
	}
	folders, err := buildAll(ctx, filepath.Join(dir, "bin"), canary)
	if err != nil {
		return nil, err
	}
	if w.database, err = openDatabase(ctx, filepath.Join(dir, "postgres"), w.history(), canary); err != nil {
		return nil, err
	}
	if err := w.fill(ctx, folders); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

// fill starts the processes, and makes the accounts.
func (w *world) fill(ctx context.Context, folders map[string]string) error {
	used := map[int]bool{}
	fake, err := freeAddress(ctx, used)
	if err != nil {
		return err
	}
	w.stripe = newStripe(fake)
	if err := w.start(ctx, program{
		name: stripeName, binary: "fakestripe", folders: folders, logs: w.history(), ready: "http://" + fake + "/_fake/healthz",
		args: []string{"--listen=" + fake, "--data=" + filepath.Join(w.dir, "stripe"), "--log-format=json"},
		env:  []string{"PATH=" + os.Getenv("PATH")},
	}, current); err != nil {
		return err
	}
	if err := w.workers[stripeName].awaitReady(ctx); err != nil {
		return err
	}
	if err := w.makeAccounts(ctx); err != nil {
		return err
	}
	return w.startPrograms(ctx, folders, fake, used)
}

// start starts a program and keeps it running.
func (w *world) start(ctx context.Context, p program, release string) error {
	worker, err := startWorker(ctx, p, release)
	if err == nil {
		w.workers[p.name] = worker
	}
	return err
}

// startPrograms opens the links and starts the apis and the completers.
func (w *world) startPrograms(ctx context.Context, folders map[string]string, fake string, used map[int]bool) error {
	to, serves, admins := map[string]string{}, map[string]string{}, map[string]string{}
	for _, name := range workerNames() {
		for _, addresses := range []map[string]string{serves, admins} {
			address, err := freeAddress(ctx, used)
			if err != nil {
				return err
			}
			addresses[name] = address
		}
		to[postgresLink(name)], to[stripeLink(name)] = w.database.address(), fake
	}
	for _, name := range apiNames() {
		to[clientLink(name)] = serves[name]
	}
	var err error
	if w.links, err = openLinks(ctx, to, used); err != nil {
		return err
	}
	for _, name := range workerNames() {
		p := program{
			name: name, binary: name[:len(name)-2], folders: folders, logs: w.history(), ready: "http://" + admins[name] + "/readyz",
			env: w.settings(name, serves[name], admins[name]),
		}
		release := current
		if name == newestCompleter {
			release = next
		}
		if err := w.start(ctx, p, release); err != nil {
			return err
		}
	}
	return w.awaitReady(ctx)
}

// settings are the environment of a process: nothing of this machine's own.
func (w *world) settings(name, serves, admin string) []string {
	phases := "fused"
	if name == newestAPI {
		phases = "stepwise"
	}
	return []string{
		"PATH=" + os.Getenv("PATH"), "USER=chaos", "GOMAXPROCS=2", "LOG_FORMAT=json",
		"DATABASE_URL=" + w.database.urlFor(name, w.links.address(postgresLink(name))),
		"STRIPE_URL=http://" + w.links.address(stripeLink(name)), "STRIPE_API_KEY=" + stripeKey,
		"LISTEN=" + serves, "ADMIN_LISTEN=" + admin, "PHASES=" + phases,
		"LEASE=" + lease.String(), "STRIPE_TIMEOUT=" + stripeTimeout.String(), "POLL=" + poll.String(),
		"BACKOFF_INITIAL=" + firstBackoff.String(), "BACKOFF_MAX=" + longBackoff.String(),
		"SAVED_500_AFTER=" + saved500After.String(), "SHUTDOWN_TIMEOUT=3s",
	}
}

// awaitReady returns when every process serves.
func (w *world) awaitReady(ctx context.Context) error {
	for _, worker := range w.workers {
		if err := worker.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// makeAccounts makes the accounts; the card of every eighth is declined.
func (w *world) makeAccounts(ctx context.Context) error {
	for i := range accountsMade {
		email := fmt.Sprintf("rider-%d@example.com", i)
		customer, err := w.stripe.newCustomer(ctx, email)
		if err != nil {
			return err
		}
		card, refused := "pm_card_visa", i%8 == 7
		if refused {
			card = "pm_card_chargeCustomerFail"
		}
		made, err := accounts.Store{Pool: w.database.pool}.Create(ctx, accounts.NewAccount{Email: email, StripeCustomer: customer, PaymentMethod: card})
		if err != nil {
			return err
		}
		w.accounts = append(w.accounts, &account{
			id: made.AccountID, apiKey: made.APIKey.Reveal(), customer: customer, declined: refused,
		})
	}
	return nil
}

// apiURLs are where clients reach the apis, by link.
func (w *world) apiURLs() map[string]string {
	urls := map[string]string{}
	for _, name := range apiNames() {
		urls[clientLink(name)] = "http://" + w.links.address(clientLink(name))
	}
	return urls
}

// rest waits until every key is finished or parked, or for limit.
func (w *world) rest(ctx context.Context, limit time.Duration) error {
	if err := w.awaitReady(ctx); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < limit && ctx.Err() == nil; _ = pause.For(ctx, 50*time.Millisecond) {
		if n, err := w.database.unfinished(ctx); err == nil && n == 0 {
			break
		}
	}
	return ctx.Err()
}

// lives are the processes of every worker, and panics how many of them ended by
// one.
func (w *world) lives() (lives map[string][]life, panics check) {
	lives, panics = map[string][]life{}, newCheck("no program panics")
	for name, worker := range w.workers {
		all, crashes := worker.history()
		lives[name] = all
		panics.looked += len(all)
		for range crashes {
			panics.breaks("%s ended by a panic; see its log", name)
		}
	}
	return lives, panics
}

// fenced counts how often a worker found that its key was in other hands.
func (w *world) fenced() int {
	n := 0
	for name := range w.workers {
		log, err := os.ReadFile(filepath.Join(w.history(), name+".log"))
		if err == nil { // one that never started has none
			n += bytes.Count(log, []byte(`"msg":"fenced"`))
		}
	}
	return n
}

// close ends everything. The history stays.
func (w *world) close(ctx context.Context) error {
	for _, worker := range w.workers {
		worker.stop(ctx)
	}
	w.links.close()
	err := w.database.close(ctx)
	return errors.Join(err, os.RemoveAll(filepath.Join(w.dir, "bin")), os.RemoveAll(filepath.Join(w.dir, "stripe")))
}
