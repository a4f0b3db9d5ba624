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

// A system is the system under test: all processes, and the links between them.
type system struct {
	dir      string // everything in it is removed at the end, except the history
	database *database
	stripe   *stripe
	links    links
	workers  map[string]*worker
	accounts []*account
}

// history returns the folder that is kept if a promise was broken.
func (s *system) history() string { return filepath.Join(s.dir, "history") }

// accountsMade is the number of accounts. Each has its own customer, because
// the service looks for a lost charge among all payments of a customer, and no
// real customer takes thousands of rides in an hour.
const accountsMade = 240

// startSystem builds the programs and starts everything.
func startSystem(ctx context.Context, dir string, canary bool) (*system, error) {
	s := &system{dir: dir, workers: map[string]*worker{}}
	if err := os.MkdirAll(s.history(), 0o700); err != nil {
		return nil, err
	}
	folders, err := buildAll(ctx, filepath.Join(dir, "bin"), canary)
	if err != nil {
		return nil, err
	}
	if s.database, err = openDatabase(ctx, filepath.Join(dir, "postgres"), s.history(), canary); err != nil {
		return nil, err
	}
	if err := s.startAll(ctx, folders); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

// startAll starts the processes and makes the accounts.
func (s *system) startAll(ctx context.Context, folders map[string]string) error {
	used := map[int]bool{}
	fake, err := freeAddress(ctx, used)
	if err != nil {
		return err
	}
	s.stripe = newStripe(fake)
	at, err := s.openLinks(ctx, fake, used)
	if err != nil {
		return err
	}
	if err := s.start(ctx, program{
		name: stripeName, binary: "fakestripe", folders: folders, logs: s.history(), ready: "http://" + fake + "/_fake/healthz",
		args: []string{"--listen=" + fake, "--data=" + filepath.Join(s.dir, "stripe"), "--log-format=json"},
		env: []string{
			"PATH=" + os.Getenv("PATH"), "FAKESTRIPE_WEBHOOK_SECRET=" + webhookSecret,
			"FAKESTRIPE_EVENTS_TO=http://" + s.links.address(clientLink("api-1")) + "/v1/stripe/events",
		},
	}, current); err != nil {
		return err
	}
	if err := s.workers[stripeName].awaitReady(ctx); err != nil {
		return err
	}
	if err := s.makeAccounts(ctx); err != nil {
		return err
	}
	if err := s.startPrograms(ctx, folders, at); err != nil {
		return err
	}
	return s.stripe.tellAs(ctx, eventRules())
}

// start starts a program and keeps it running.
func (s *system) start(ctx context.Context, p program, release string) error {
	worker, err := startWorker(ctx, p, release)
	if err == nil {
		s.workers[p.name] = worker
	}
	return err
}

// addresses are where each process listens.
type addresses struct{ serves, admins map[string]string }

// openLinks chooses the addresses of the apis and the completers, and opens the
// links between everything.
func (s *system) openLinks(ctx context.Context, fake string, used map[int]bool) (addresses, error) {
	to, at := map[string]string{}, addresses{map[string]string{}, map[string]string{}}
	for _, name := range workerNames() {
		for _, chosen := range []map[string]string{at.serves, at.admins} {
			address, err := freeAddress(ctx, used)
			if err != nil {
				return at, err
			}
			chosen[name] = address
		}
		to[postgresLink(name)], to[stripeLink(name)] = s.database.address(), fake
	}
	for _, name := range apiNames() {
		to[clientLink(name)] = at.serves[name]
	}
	var err error
	s.links, err = openLinks(ctx, to, used)
	return at, err
}

// startPrograms starts the apis and the completers.
func (s *system) startPrograms(ctx context.Context, folders map[string]string, at addresses) error {
	for _, name := range workerNames() {
		p := program{
			name: name, binary: name[:len(name)-2], folders: folders, logs: s.history(), ready: "http://" + at.admins[name] + "/readyz",
			env: s.settings(name, at.serves[name], at.admins[name]),
		}
		release := current
		if name == newestCompleter {
			release = next
		}
		if err := s.start(ctx, p, release); err != nil {
			return err
		}
	}
	return s.awaitReady(ctx)
}

// settings returns the environment of a process. Nothing is taken from the
// machine's own environment except PATH.
func (s *system) settings(name, serves, admin string) []string {
	phases := "fused"
	if name == newestAPI {
		phases = "stepwise"
	}
	return []string{
		"PATH=" + os.Getenv("PATH"), "USER=chaos", "GOMAXPROCS=2", "LOG_FORMAT=json",
		"DATABASE_URL=" + s.database.urlFor(name, s.links.address(postgresLink(name))),
		"STRIPE_URL=http://" + s.links.address(stripeLink(name)), "STRIPE_API_KEY=" + stripeKey,
		"LISTEN=" + serves, "ADMIN_LISTEN=" + admin, "PHASES=" + phases,
		"LEASE=" + lease.String(), "STRIPE_TIMEOUT=" + stripeTimeout.String(), "POLL=" + poll.String(),
		"BACKOFF_INITIAL=" + firstBackoff.String(), "BACKOFF_MAX=" + longBackoff.String(),
		"SAVED_500_AFTER=" + saved500After.String(), "SHUTDOWN_TIMEOUT=3s", "STRIPE_WEBHOOK_SECRET=" + webhookSecret,
		"RATE_LIMIT=0", // all clients of an account are one to it
	}
}

// awaitReady returns when every process is ready.
func (s *system) awaitReady(ctx context.Context) error {
	for _, worker := range s.workers {
		if err := worker.awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// makeAccounts makes the accounts. The card of every eighth is declined.
func (s *system) makeAccounts(ctx context.Context) error {
	for i := range accountsMade {
		email := fmt.Sprintf("rider-%d@example.com", i)
		customer, err := s.stripe.newCustomer(ctx, email)
		if err != nil {
			return err
		}
		card, refused := "pm_card_visa", i%8 == 7
		if refused {
			card = "pm_card_chargeCustomerFail"
		}
		made, err := accounts.Store{Pool: s.database.pool}.Create(ctx, accounts.NewAccount{Email: email, StripeCustomer: customer, PaymentMethod: card})
		if err != nil {
			return err
		}
		s.accounts = append(s.accounts, &account{
			id: made.AccountID, apiKey: made.APIKey.Reveal(), customer: customer, declined: refused,
		})
	}
	return nil
}

// apiURLs returns the URLs of the apis for clients, by link.
func (s *system) apiURLs() map[string]string {
	urls := map[string]string{}
	for _, name := range apiNames() {
		urls[clientLink(name)] = "http://" + s.links.address(clientLink(name))
	}
	return urls
}

// rest waits until count returns 0 keys, for at most limit.
func (s *system) rest(ctx context.Context, limit time.Duration, count func(context.Context) (int, error)) error {
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < limit && ctx.Err() == nil; _ = pause.For(ctx, 50*time.Millisecond) {
		if n, err := count(ctx); err == nil && n == 0 {
			break
		}
	}
	return ctx.Err()
}

// lives returns the processes that each worker has had, and checks that none of
// them ended with a panic.
func (s *system) lives() (lives map[string][]life, panics check) {
	lives, panics = map[string][]life{}, newCheck("no program panics")
	for name, worker := range s.workers {
		all, crashes := worker.history()
		lives[name] = all
		panics.looked += len(all)
		for range crashes {
			panics.breaks("%s ended by a panic; see its log", name)
		}
	}
	return lives, panics
}

// fenced counts how often a worker was fenced out of its key.
func (s *system) fenced() int {
	n := 0
	for name := range s.workers {
		log, err := os.ReadFile(filepath.Join(s.history(), name+".log"))
		if err == nil { // one that never started has none
			n += bytes.Count(log, []byte(`"msg":"fenced"`))
		}
	}
	return n
}

// close ends everything, and keeps the history.
func (s *system) close(ctx context.Context) error {
	for _, worker := range s.workers {
		worker.stop(ctx)
	}
	s.links.close()
	err := s.database.close(ctx)
	return errors.Join(err, os.RemoveAll(filepath.Join(s.dir, "bin")), os.RemoveAll(filepath.Join(s.dir, "stripe")))
}
