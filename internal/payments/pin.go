package payments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/pause"
)

const (
	// pinInterval is how often a process asks which Stripe account its API key
	// belongs to.
	pinInterval = time.Hour
	// pinRetryInterval is how often it asks while nothing may be sent.
	pinRetryInterval = 5 * time.Second
	// pinTimeout bounds the question, because the first one delays the start.
	pinTimeout = 5 * time.Second
)

// ErrOtherAccount means that the API key belongs to another Stripe account than
// the one on record.
var ErrOtherAccount = errors.New("the Stripe key belongs to another account")

// A Pin keeps a process from working with a key of another Stripe account than
// the one that this database's charges go to. Under such a key every customer
// and every earlier charge would seem to be missing.
//
// Nothing is sent before Stripe has said once which account the key belongs to.
// The first key of a mode pins its account; after that only MoveAccount changes
// it. A Pin is safe for concurrent use.
type Pin struct {
	stripe *Stripe
	pool   *pgxpool.Pool

	mu      sync.RWMutex
	state   pinState
	realm   string
	account string
}

// A pinState is what is known of the account of the API key.
type pinState int

const (
	pinUnknown pinState = iota // Stripe has not said yet whose the key is
	pinHeld                    // the key is of the pinned account
	pinBroken                  // the key is of another account
)

// NewPin returns a Pin, and keeps stripe from sending anything until a check
// has succeeded.
func NewPin(stripe *Stripe, pool *pgxpool.Pool) *Pin {
	stripe.Refuse("it is not known yet which Stripe account the API key belongs to")
	return &Pin{stripe: stripe, pool: pool}
}

// Realm names the mode and the Stripe account that keys are claimed for. It is
// "" while that isn't known, and while the API key belongs to another account.
func (p *Pin) Realm() string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.realm
}

// Account returns the id of the Stripe account that the charges of this database
// go to, or "" while none is known to be on record.
func (p *Pin) Account() string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.account
}

// Keep checks now, and again and again until ctx ends. It returns after the
// first check, which takes a few seconds at most. It logs each error once.
func (p *Pin) Keep(ctx context.Context, log *slog.Logger) {
	logged := logPin(ctx, log, p.Check(ctx), "")
	go func() {
		for pause.For(ctx, p.interval()) == nil {
			logged = logPin(ctx, log, p.Check(ctx), logged)
		}
	}()
}

// logPin logs an error of Check and returns its text, unless it has the text
// that was logged last or only says that the process ends.
func logPin(ctx context.Context, log *slog.Logger, err error, logged string) string {
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil || err.Error() == logged:
		return logged
	case errors.Is(err, ErrOtherAccount):
		log.ErrorContext(ctx, "nothing is charged, because the Stripe key is of another account", slog.Any("error", err))
	default:
		log.WarnContext(ctx, "it is not known whether the Stripe key is of the pinned account", slog.Any("error", err))
	}
	return err.Error()
}

func (p *Pin) interval() time.Duration {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.state == pinHeld {
		return pinInterval
	}
	return pinRetryInterval
}

// Check asks Stripe which account the API key belongs to, and compares it with
// the record, which it makes if there is none. The error wraps ErrOtherAccount
// if they differ. Any other error means that Stripe or the database could not be
// asked. Then what is known stays in force; as long as nothing is, keys are
// claimed for the account on record.
func (p *Pin) Check(ctx context.Context) error {
	id, err := p.stripe.askAccount(ctx)
	if err != nil {
		onRecord, readErr := presentAccount(ctx, p.pool, p.stripe.Live())
		return p.set(onRecord, errors.Join(err, readErr))
	}
	onRecord, err := pinAccount(ctx, p.pool, id, p.stripe.Live())
	return p.set(onRecord, cmp.Or(err, onRecord.check(id)))
}

// askAccount is Account, with a shorter time-out.
func (s *Stripe) askAccount(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pinTimeout)
	defer cancel()
	id, err := s.Account(ctx)
	if err != nil {
		return "", fmt.Errorf("asking Stripe whose the API key is: %w", err)
	}
	return id, nil
}

// check returns an error if the account with the id is another one.
func (a StripeAccount) check(id string) error {
	if a.ID == id {
		return nil
	}
	return fmt.Errorf("%w: it is of %s, and the charges of this database go to %s; use a key of that account, "+
		"or move on purpose with `api stripe-account --move`", ErrOtherAccount, id, a.ID)
}

// PinnedRealm is Check for a program that only reads: it makes no record, and
// returns the realm of the one that is there. Without a record that is the mode
// of the API key.
func PinnedRealm(ctx context.Context, stripe *Stripe, pool *pgxpool.Pool) (string, error) {
	onRecord, err := presentAccount(ctx, pool, stripe.Live())
	if err != nil || onRecord.ID == "" {
		return ModeName(stripe.Live()), err
	}
	id, err := stripe.askAccount(ctx)
	return onRecord.Realm, cmp.Or(err, onRecord.check(id))
}

// Assume makes keys of a realm be worked on without asking Stripe, also those of
// an account that was left. Nothing is sent.
func (p *Pin) Assume(realm string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.realm = realm
}

// set puts the outcome of a check in force, and returns its error.
func (p *Pin) set(onRecord StripeAccount, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if onRecord.ID != "" {
		p.account = onRecord.ID
	}
	switch {
	case err == nil:
		p.state, p.realm = pinHeld, onRecord.Realm
		p.stripe.Allow()
	case errors.Is(err, ErrOtherAccount):
		p.state, p.realm = pinBroken, ""
		p.stripe.Refuse(err.Error())
	case p.state == pinUnknown:
		p.realm = onRecord.Realm
	}
	return err
}
