package phases

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an Engine needs. Durations and counts without a default must
// be positive.
type Config struct {
	// Pool is the database. Its connections are never held during a foreign
	// call.
	Pool *pgxpool.Pool
	// Flows are those that this process knows; keys of other flows are left
	// alone.
	Flows []Flow
	// Realm names the world on the foreign side, such as "test" or "live". It
	// is stored with every key, and a key of another realm is never claimed. It
	// returns "" while the realm isn't known or must not be worked on: then
	// nothing is claimed, as if all flows were Paused. It is called for each
	// attempt, by many goroutines.
	Realm func() string
	// Lease is how long a key stays with its worker after the worker has last
	// renewed it; then others may claim it. Every transaction renews it, and a
	// foreign call that lasts is renewed several times. It is at least
	// MinLease. No safety rests on it: the fence shuts out a worker that has
	// lost its key.
	Lease time.Duration
	// CallTimeout bounds one send. Whoever decides that nothing was done waits
	// that long for sends that may be under way.
	CallTimeout time.Duration
	// FindTimeout bounds one look-up, which may have to read long lists. Nobody
	// waits for it. 0 means DefaultFindTimeout.
	FindTimeout time.Duration
	// Window is how long after the first send the same form may be sent again.
	// It must lie well below the time after which the other side forgets
	// idempotency keys. 0 means 20 hours: Stripe forgets after 24 at the
	// earliest.
	Window time.Duration
	// Backoff is how long the completer leaves a key alone after failures.
	Backoff Backoff
	// MaxAttempts is how many failures that would repeat with the same input
	// park a key.
	MaxAttempts int
	// Stepwise makes every attempt commit at every recovery point. Otherwise a
	// key's first attempt fuses phases that no foreign call separates.
	Stepwise bool
	// OneAccount keeps transactions of different accounts from sharing a
	// COMMIT. A database that is distributed by account (Citus) would pay for
	// that with a two-phase commit.
	OneAccount bool
	// Paused names the flows that are stopped: their new keys are refused
	// before a claim, and their unfinished ones wait.
	Paused []string
	// Memory is how long a look-up of a key also answers other requests, while
	// an attempt of this process works on the key. 0 means 100 ms; a negative
	// time means that each request looks for itself.
	Memory time.Duration
	// MaxInFlight bounds the attempts of this process, and MaxPerAccount those
	// that requests of one account make, so that no account takes all the room.
	// What exceeds them is refused with ErrBusy before anything is claimed; a
	// key that has its answer is still answered. 0 means 10,000, and 1,000.
	MaxInFlight, MaxPerAccount int
	// Unconfirmed reports, and forgets, whether the server warned that the last
	// commit on conn was not confirmed by its synchronous standby. nil means
	// that it never warns.
	Unconfirmed func(conn *pgx.Conn) bool
	// Sending, if it is not nil, is told of each statement that an attempt or a
	// look-up sends, for tests.
	Sending func(sql string, args []any)
	// Logger logs what happens to keys. nil means slog.Default().
	Logger *slog.Logger
	// Metrics registers the engine's metrics. nil means that they are not
	// registered.
	Metrics prometheus.Registerer
}

// DefaultFindTimeout is the default of Config.FindTimeout. People who look for
// the same need no more.
const DefaultFindTimeout = 15 * time.Minute

// DefaultWindow is the default of Config.Window.
const DefaultWindow = 20 * time.Hour

// MinLease is the shortest lease that makes sense: a renewal, which begins when
// half of it is gone, takes a round trip and a commit.
const MinLease = 100 * time.Millisecond

// check returns an error for settings with which the engine can't work.
func (c Config) check() error {
	switch {
	case c.Pool == nil || len(c.Flows) == 0 || c.Realm == nil:
		return errors.New("an engine needs a pool, a realm and at least one flow")
	case c.Lease < MinLease:
		return fmt.Errorf("a lease of %s can't be renewed in time: it must last at least %s", c.Lease, MinLease)
	case c.CallTimeout <= 0 || c.FindTimeout <= 0:
		return fmt.Errorf("a foreign call and its look-up need time-outs: %s and %s", c.CallTimeout, c.FindTimeout)
	case c.Window <= c.CallTimeout:
		return fmt.Errorf("the window (%s) must be longer than a foreign call may take (%s)", c.Window, c.CallTimeout)
	case c.Backoff.Initial <= 0 || c.Backoff.Max < c.Backoff.Initial:
		return fmt.Errorf("the back-off must rise from a positive time: %s to %s", c.Backoff.Initial, c.Backoff.Max)
	case c.MaxAttempts < 1 || c.MaxInFlight < 1 || c.MaxPerAccount < 1:
		return fmt.Errorf("at least one attempt must be allowed: %d, %d in flight, %d per account", c.MaxAttempts, c.MaxInFlight, c.MaxPerAccount)
	}
	return nil
}
