package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
)

const (
	// principalTTL is how long a successful authentication is remembered, and
	// so how long a revoked API key may still work.
	principalTTL = 30 * time.Second
	// maxPrincipals bounds the memory that this takes.
	maxPrincipals = 10_000
	// lookUpTimeout bounds the look-up of one API key in the database.
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
	pool  *pgxpool.Pool
	live  bool
	cache *expirable.LRU[[32]byte, Principal] // by the API key's hash
}

// NewAuthenticator returns an Authenticator that accepts the API keys of one
// mode: those for real money if live is true, else those for tests.
func NewAuthenticator(pool *pgxpool.Pool, live bool) *Authenticator {
	return &Authenticator{
		pool: pool, live: live, cache: expirable.NewLRU[[32]byte, Principal](maxPrincipals, nil, principalTTL),
	}
}

// Authenticate returns the account whose API key is in the Authorization
// header. A key that worked is not looked up again for 30 seconds. A key of the
// wrong form or mode is refused without asking the database.
//
// The error is [ErrUnauthenticated] with its cause, or what kept the database
// from answering, such as [phases.ErrUnavailable].
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	key, err := a.parse(header)
	if err != nil {
		return Principal{}, err
	}
	if who, ok := a.cache.Get(key.Hash()); ok {
		return who, nil
	}
	who, err := a.lookUp(ctx, key)
	if err != nil {
		return Principal{}, err
	}
	a.cache.Add(key.Hash(), who)
	return who, nil
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

// lookUp finds an active API key in the database. The hash covers the whole
// key, so finding the row is the comparison. The time that this takes reveals
// nothing that helps to guess the 190 random bits of a key.
func (a *Authenticator) lookUp(ctx context.Context, key APIKey) (Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	hash := key.Hash()
	who := Principal{AccountID: key.AccountID()}
	err := phases.Reread(ctx, func(ctx context.Context) error {
		return a.pool.QueryRow(ctx, `
			SELECT a.stripe_customer, a.payment_method, a.livemode
			FROM api_keys k JOIN accounts a ON a.id = k.account_id
			WHERE k.account_id = $1 AND k.hash = $2 AND k.revoked_at IS NULL`,
			who.AccountID, hash[:]).Scan(&who.Customer, &who.PaymentMethod, &who.Live)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Principal{}, fmt.Errorf("%w: unknown or revoked API key", ErrUnauthenticated)
	case err != nil:
		return Principal{}, fmt.Errorf("looking up API key: %w", err)
	case who.Live != a.live:
		return Principal{}, fmt.Errorf("%w: account of the other mode", ErrUnauthenticated)
	}
	return who, nil
}
