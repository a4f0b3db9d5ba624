package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

const (
	ok       = http.StatusOK
	created  = http.StatusCreated
	accepted = http.StatusAccepted
)

// fresh is the name of the scenario that every system is measured in.
const fresh = "fresh"

// A scenario is something that clients do with the service.
type scenario struct {
	name, about string
	workload
	latency   time.Duration // of the stub, for a charge
	completer bool          // whether the completer runs
	// calls returns what clients send. It may first make what they ask for.
	calls func(ctx context.Context, s *service) (calls, error)
}

// scenarios are all of them, in the order of the report. Those with the clients
// 0 get them from the command line.
func scenarios() []scenario {
	const clients = 32
	hail := func(_ context.Context, s *service) (calls, error) { return freshRides(s.accounts), nil }
	return []scenario{
		{
			name: fresh, about: "new rides; receipts are staged, and nobody works them",
			workload: workload{wanted: []int{created}}, calls: hail,
		},
		{
			name: "receipts", about: "new rides, while the completer works the receipts",
			workload: workload{clients: clients, wanted: []int{created}}, calls: hail, completer: true,
		},
		{
			name: "replays", about: "requests that were answered before",
			workload: workload{clients: clients, wanted: []int{replayed + created}}, calls: replays,
		},
		{
			name: "hot-key", about: "all clients send one key; every 1,000 requests it is another",
			workload: workload{clients: clients, wanted: hotKeyAnswers()},
			calls:    func(_ context.Context, s *service) (calls, error) { return hotKey(s.accounts), nil },
		},
		{
			name: "declines", about: "new rides whose card is declined",
			workload: workload{clients: clients, wanted: []int{http.StatusPaymentRequired}},
			calls:    func(_ context.Context, s *service) (calls, error) { return freshRides(s.declined), nil },
		},
		{
			name: "async", about: "new rides that are accepted (Prefer: respond-async), and go on by themselves",
			workload: workload{clients: clients, wanted: []int{accepted}}, calls: asyncRides,
		},
		{
			name: "list", about: "pages of 20 rides",
			workload: workload{clients: clients, wanted: []int{ok}}, calls: listPages,
		},
		{
			name: "mix", about: "of ten requests one is a new ride; three are replays, three read a ride, three a page",
			workload: workload{clients: clients, wanted: []int{ok, created, replayed + created}}, calls: mixed,
		},
		{
			name: "stripe-50ms", about: "new rides while Stripe takes 50 ms",
			workload: workload{clients: 128, wanted: []int{created}}, calls: hail, latency: 50 * time.Millisecond,
		},
		{
			name: "stripe-2s", about: "new rides while Stripe takes 2 s",
			workload: workload{clients: 1000, settle: 3 * time.Second, wanted: []int{created}}, calls: hail, latency: 2 * time.Second,
		},
	}
}

const rideBody = `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`

// keys returns keys of the length of a UUID, which nobody else uses.
func keys() func(n int64) string {
	prefix := rand.Text()[:23]
	return func(n int64) string { return fmt.Sprintf("%s-%012d", prefix, n) }
}

func hail(a account, key string) call {
	return call{method: http.MethodPost, path: "/v1/rides", apiKey: a.APIKey, key: key, body: rideBody}
}

// freshRides has the accounts take turns at hailing new rides.
func freshRides(accounts []account) calls { return numbered(rides(accounts)) }

// rides returns the n-th ride of many.
func rides(accounts []account) func(n int64) call {
	key := keys()
	return func(n int64) call { return hail(accounts[n%int64(len(accounts))], key(n)) }
}

func asyncRides(_ context.Context, s *service) (calls, error) {
	ride := freshRides(s.accounts)
	return func() call {
		c := ride()
		c.prefer = "respond-async"
		return c
	}, nil
}

// hotKeyAnswers are how one of many requests with one key may be answered.
func hotKeyAnswers() []int { return []int{created, replayed + created, http.StatusConflict} }

// hotKey returns calls of which a thousand in a row are the same.
func hotKey(accounts []account) calls {
	ride := rides(accounts)
	return numbered(func(n int64) call { return ride(n / 1000) })
}

// finished is how many rides are made for scenarios that read.
const finished = 1000

// replays hails rides, and returns calls that repeat them.
func replays(_ context.Context, s *service) (calls, error) {
	ride := rides(s.accounts)
	if err := (load{s.service.address, numbered(ride)}).sendAll(finished, created); err != nil {
		return nil, err
	}
	return numbered(func(n int64) call { return ride(n % finished) }), nil
}

func listPages(_ context.Context, s *service) (calls, error) {
	return numbered(func(n int64) call {
		return call{method: http.MethodGet, path: "/v1/rides", apiKey: s.accounts[n%int64(len(s.accounts))].APIKey}
	}), nil
}

// mixed returns calls of which one in ten changes something.
func mixed(ctx context.Context, s *service) (calls, error) {
	again, err := replays(ctx, s)
	if err != nil {
		return nil, err
	}
	page, err := listPages(ctx, s)
	if err != nil {
		return nil, err
	}
	var id string
	err = s.pool.QueryRow(ctx, `SELECT id FROM rides WHERE account_id = $1 ORDER BY created_at DESC LIMIT 1`, s.accounts[0].ID).Scan(&id)
	if err != nil {
		return nil, err
	}
	ride := freshRides(s.accounts)
	return numbered(func(n int64) call {
		switch n % 10 {
		case 0:
			return ride()
		case 1, 4, 7:
			return again()
		case 2, 5, 8:
			return call{method: http.MethodGet, path: "/v1/rides/" + id, apiKey: s.accounts[0].APIKey}
		default:
			return page()
		}
	}), nil
}

// Scenarios that are measured once, and only of the service.
const (
	openLoop = "open-loop"
	growth   = "growth"
)

// names are what --scenarios may choose, with what they do.
func names() [][2]string {
	var all [][2]string
	for _, s := range scenarios() {
		all = append(all, [2]string{s.name, s.about})
	}
	return append(all,
		[2]string{openLoop, "new rides at half of the rate that was reached, however long the answers take"},
		[2]string{growth, "new rides in a database that was empty and never analyzed"},
		[2]string{inFlight, "only if named: 10,000 rides wait for Stripe at once"},
		[2]string{overload, "only if named: ten times as many rides as can be served"},
		[2]string{burst, "only if named: 2,000 requests with one key at once"},
		[2]string{rows, "only if named: what is asked of 10,000,000 finished keys and rides, and reaping (--rows)"})
}

func (b *bench) list(w io.Writer) error {
	for _, name := range names() {
		fmt.Fprintf(w, "%-12s %s\n", name[0], name[1])
	}
	return nil
}

func (b *bench) checkScenarios() error {
	for _, wanted := range b.Scenarios {
		if !slices.ContainsFunc(names(), func(name [2]string) bool { return name[0] == wanted }) {
			return fmt.Errorf("there is no scenario %q: see --list", wanted)
		}
	}
	return nil
}

// wants reports whether a scenario is measured.
func (b *bench) wants(name string) bool { return len(b.Scenarios) == 0 || b.named(name) }

// named reports whether a scenario was asked for by its name.
func (b *bench) named(name string) bool { return slices.Contains(b.Scenarios, name) }
