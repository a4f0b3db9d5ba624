package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/pause"
	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	// rememberedFor is how long an account and its API keys are remembered, and
	// so how long a revoked key or a disabled account may still work.
	rememberedFor = 30 * time.Second
	// lookUpPause is the time between two look-ups of one account for API keys
	// that it isn't known to have.
	lookUpPause = time.Second
	// maxRemembered bounds how many accounts are remembered, and how many ids
	// that belong to no account.
	maxRemembered = 10_000
	// atOnce is how many look-ups of one account are made at once. It is not
	// one, so that a connection that hangs holds up nobody else.
	atOnce = 2
	// lookUpTimeout bounds one look-up in the database.
	lookUpTimeout = 5 * time.Second
)

// ErrUnauthenticated means that a request has no valid API key. Errors that
// wrap it add the cause, which is meant for the log; none holds the key.
var ErrUnauthenticated = errors.New("no valid API key")

// A Principal is the account that a request acts for, and what is needed to
// charge it.
type Principal struct {
	AccountID     string
	Customer      string // at Stripe: cus_…
	PaymentMethod string // at Stripe: pm_…
	Live          bool   // whether it pays with real money
}

// An Authenticator finds the account that a request acts for. It is safe for
// concurrent use.
type Authenticator struct {
	live     bool
	accounts *accountCache
	guesses  guesses
}

// A RerunFunc runs a read of the database, and again if the connection was lost,
// as [phases.Rerun] and [phases.Engine.Rerun] do.
type RerunFunc func(ctx context.Context, run func(context.Context) error) error

// NewAuthenticator returns an Authenticator that accepts the API keys of one
// mode: those for real money if live is true, else those for tests. rerun bounds
// how many connections its look-ups take, as [phases.Engine.Rerun] does; nil
// is [phases.Rerun], which doesn't.
func NewAuthenticator(pool *pgxpool.Pool, live bool, rerun RerunFunc) *Authenticator {
	if rerun == nil {
		rerun = phases.Rerun
	}
	return &Authenticator{live: live, accounts: newAccountCache(pool, rememberedFor, rerun), guesses: newGuesses()}
}

// Authenticate returns the account whose API key is in the Authorization
// header. An account is remembered for 30 seconds, with its API keys and with
// what is needed to charge it; so a change of it is in force within that time.
// An API key that the account isn't known to have is looked up, but at most
// twice a second for each account: a request with such a key may have to wait.
// A key of the wrong form or mode is refused without asking the database.
//
// The error is ErrUnauthenticated with its cause, or what kept the database
// from answering, such as phases.ErrUnavailable.
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	key, err := a.parse(header)
	if err != nil {
		return Principal{}, err
	}
	return a.authenticate(ctx, key)
}

// authenticate is Authenticate for a key of the right form and mode.
func (a *Authenticator) authenticate(ctx context.Context, key APIKey) (Principal, error) {
	found, err := a.find(ctx, key)
	if err != nil {
		return Principal{}, err
	}
	return a.accept(found, key)
}

// Recheck reports whether the API key in the header still works, by what the
// database said at most age ago, or a second if age is less. It is for requests
// that go on for long after they were authenticated. The errors are those of
// Authenticate.
func (a *Authenticator) Recheck(ctx context.Context, header http.Header, age time.Duration) error {
	key, err := a.parse(header)
	if err != nil {
		return err
	}
	found, err := a.accounts.get(ctx, key.AccountID(), time.Now().Add(-age))
	if err != nil {
		return fmt.Errorf("looking up API key again: %w", err)
	}
	_, err = a.accept(found, key)
	return err
}

// accept returns the account that a key acts for, or why the key doesn't work.
func (a *Authenticator) accept(found *account, key APIKey) (Principal, error) {
	switch {
	case !found.has(key):
		return Principal{}, fmt.Errorf("%w: unknown or revoked API key", ErrUnauthenticated)
	case found.disabled:
		return Principal{}, fmt.Errorf("%w: disabled account", ErrUnauthenticated)
	case found.who.Live != a.live:
		return Principal{}, fmt.Errorf("%w: account of the other mode", ErrUnauthenticated)
	}
	return found.who, nil
}

// parse reads the API key from the header and checks its form and mode.
func (a *Authenticator) parse(header http.Header) (APIKey, error) {
	lines := header.Values("Authorization")
	if len(lines) > 1 {
		return APIKey{}, fmt.Errorf("%w: several Authorization headers", ErrUnauthenticated)
	}
	key, err := BearerKey(header.Get("Authorization"))
	if err != nil {
		return APIKey{}, err
	}
	if key.Live() != a.live {
		return APIKey{}, fmt.Errorf("%w: API key of the other mode", ErrUnauthenticated)
	}
	return key, nil
}

// find returns the account that a key names: as it is remembered, if it has the
// key, else as it was after the request came.
func (a *Authenticator) find(ctx context.Context, key APIKey) (*account, error) {
	arrived := time.Now()
	found, err := a.accounts.get(ctx, key.AccountID(), time.Time{})
	for err == nil && !found.has(key) && found.askedAt.Before(arrived) {
		if err = pause.For(ctx, time.Until(found.askedAt.Add(lookUpPause))); err == nil {
			found, err = a.accounts.get(ctx, key.AccountID(), arrived)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking up API key: %w", err)
	}
	return found, nil
}
