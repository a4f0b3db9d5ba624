package accounts

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// An account is what the database said about an account's id. Nothing changes
// it.
type account struct {
	who      Principal
	exists   bool
	disabled bool
	keys     map[[32]byte]bool // the hashes of its active API keys
	askedAt  time.Time         // when asking the database began: it says what was true then, or later
}

// has reports whether an API key is one of the account's. The hash covers the
// whole key, so finding it is the comparison. The time that this takes reveals
// nothing that helps to guess the 190 random bits of a key.
func (a *account) has(key APIKey) bool { return a.keys[key.Hash()] }

// An accountCache remembers accounts for a time. Ids that belong to no account
// are remembered apart, so that requests with invented ids don't displace
// accounts.
type accountCache struct {
	pool      *pgxpool.Pool
	rerun     RerunFunc
	ttl       time.Duration
	known     *expirable.LRU[string, *account]
	strangers *expirable.LRU[string, *account]

	mu      sync.Mutex
	lookUps map[string]*lookUps // those on their way, by account id
}

// lookUps are the queries about one account that are on their way.
type lookUps struct {
	running int
	next    *lookUp // the one that ends first, which further requests wait for
}

// A lookUp is what a query came to.
type lookUp struct {
	done  chan struct{}
	found *account
	err   error
}

func newAccountCache(pool *pgxpool.Pool, ttl time.Duration, rerun RerunFunc) *accountCache {
	return &accountCache{
		pool:      pool,
		rerun:     rerun,
		ttl:       ttl,
		known:     expirable.NewLRU[string, *account](maxRemembered, nil, ttl),
		strangers: expirable.NewLRU[string, *account](maxRemembered, nil, ttl),
		lookUps:   map[string]*lookUps{},
	}
}

// get returns the account as the database had it at a time or later, if that is
// remembered, or at least within the last second, else as the database has it
// now. At most two queries about an account are on their way at once; the result
// of one that was begun for another request may be older than since.
func (c *accountCache) get(ctx context.Context, id string, since time.Time) (*account, error) {
	c.mu.Lock()
	if found, ok := c.remembered(id); ok && (!found.askedAt.Before(since) || time.Since(found.askedAt) < lookUpPause) {
		c.mu.Unlock()
		return found, nil
	}
	l := c.lookUps[id]
	if l == nil {
		l = &lookUps{next: &lookUp{done: make(chan struct{})}}
		c.lookUps[id] = l
	}
	if l.running < atOnce {
		l.running++
		c.mu.Unlock()
		return c.lookUp(ctx, id, l)
	}
	next := l.next
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	select {
	case <-next.done:
		return next.found, next.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for a look-up: %w", phases.ErrUnavailable, context.Cause(ctx))
	}
}

// lookUp asks the database about an account, and tells those that wait for it.
// The look-up is theirs too, so it goes on when the client of ctx hangs up.
func (c *accountCache) lookUp(ctx context.Context, id string, l *lookUps) (*account, error) {
	found, err := c.ask(context.WithoutCancel(ctx), id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.remember(id, found)
	}
	l.next.found, l.next.err = found, err
	close(l.next.done)
	l.next = &lookUp{done: make(chan struct{})}
	l.running--
	if l.running == 0 {
		delete(c.lookUps, id)
	}
	return found, err
}

// remembered returns an account as it is remembered. Its time counts from
// askedAt: the LRUs count from when the answer came, which may be late.
func (c *accountCache) remembered(id string) (*account, bool) {
	found, ok := c.known.Get(id)
	if !ok {
		found, ok = c.strangers.Get(id)
	}
	return found, ok && time.Since(found.askedAt) < c.ttl
}

// remember remembers an account. Of two look-ups at once the older one may end
// last: what it found must not bring back a key that was revoked since.
func (c *accountCache) remember(id string, found *account) {
	if newer, ok := c.remembered(id); ok && newer.askedAt.After(found.askedAt) {
		return
	}
	c.known.Remove(id)
	c.strangers.Remove(id)
	if found.exists {
		c.known.Add(id, found)
	} else {
		c.strangers.Add(id, found)
	}
}

// ask asks the database about an account.
func (c *accountCache) ask(ctx context.Context, id string) (*account, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	found := &account{askedAt: time.Now()}
	err := c.rerun(ctx, func(ctx context.Context) error {
		found.who, found.exists, found.keys = Principal{AccountID: id}, false, map[[32]byte]bool{}
		rows, err := c.pool.Query(ctx, `
			SELECT a.stripe_customer, a.payment_method, a.livemode, a.disabled_at IS NOT NULL, k.hash
			FROM accounts a LEFT JOIN api_keys k ON k.account_id = a.id AND k.revoked_at IS NULL
			WHERE a.id = $1`,
			id)
		if err != nil {
			return err
		}
		var hash []byte
		_, err = pgx.ForEachRow(rows, []any{&found.who.Customer, &found.who.PaymentMethod, &found.who.Live, &found.disabled, &hash}, func() error {
			found.exists = true
			if len(hash) == 32 { // NULL if the account has no active key
				found.keys[[32]byte(hash)] = true
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
