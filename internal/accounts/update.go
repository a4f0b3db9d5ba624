package accounts

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrChanged means that the account was changed since the caller read it.
var ErrChanged = errors.New("the account was changed in the meantime; look at it again")

// Get returns an account. The error is [ErrNoAccount] if there is none.
func (s Store) Get(ctx context.Context, account string) (Account, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT `+accountColumns+`
		FROM accounts
		WHERE id = $1`,
		account)
	if err != nil {
		return Account{}, fmt.Errorf("reading account: %w", err)
	}
	found, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[Account])
	if errors.Is(err, pgx.ErrNoRows) {
		return Account{}, ErrNoAccount
	}
	if err != nil {
		return Account{}, fmt.Errorf("reading account: %w", err)
	}
	return found, nil
}

// Customers returns every Stripe customer that an account has or had. The error
// is [ErrNoAccount] if there is no such account.
func (s Store) Customers(ctx context.Context, account string) ([]string, error) {
	found, err := s.Get(ctx, account)
	if err != nil {
		return nil, err
	}
	return append(found.FormerCustomers, found.StripeCustomer), nil
}

// Update gives an account, which the caller has read as seen, the e-mail
// address, Stripe customer and payment method of wanted. It is in force
// everywhere within 30 seconds. What a ride has frozen before keeps its
// customer and payment method.
//
// A customer that is replaced becomes a former one: charges are looked for
// under all of them. The error is [ErrChanged] if any of the three is no longer
// as seen: the caller may have asked Stripe for seconds about what it saw, and
// would put back what somebody else has replaced meanwhile.
func (s Store) Update(ctx context.Context, seen, wanted Account) error {
	tag, err := s.Pool.Exec(ctx, `
		UPDATE accounts
		SET email = $5, stripe_customer = $6, payment_method = $7,
		    former_customers = array_remove(array_append(array_remove(former_customers, stripe_customer), stripe_customer), $6)
		WHERE id = $1 AND email = $2 AND stripe_customer = $3 AND payment_method = $4`,
		seen.ID, seen.Email, seen.StripeCustomer, seen.PaymentMethod, wanted.Email, wanted.StripeCustomer, wanted.PaymentMethod)
	if err != nil {
		return fmt.Errorf("updating account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrChanged
	}
	return nil
}

// Disable makes every API key of an account be refused within 30 seconds. What
// the account has begun still ends. A disabled account stays as it is. The
// error is [ErrNoAccount] if there is none.
func (s Store) Disable(ctx context.Context, account string) error {
	return s.set(ctx, "disabling", account, `
		UPDATE accounts
		SET disabled_at = now()
		WHERE id = $1 AND disabled_at IS NULL`)
}

// Enable ends what Disable began. The error is [ErrNoAccount] if there is no
// such account.
func (s Store) Enable(ctx context.Context, account string) error {
	return s.set(ctx, "enabling", account, `
		UPDATE accounts
		SET disabled_at = NULL
		WHERE id = $1 AND disabled_at IS NOT NULL`)
}

// set runs an UPDATE of an account. One that changes nothing is an error only
// if there is no such account.
func (s Store) set(ctx context.Context, doing, account, update string) error {
	tag, err := s.Pool.Exec(ctx, update, account)
	if err != nil {
		return fmt.Errorf("%s account: %w", doing, err)
	}
	if tag.RowsAffected() == 0 {
		_, err = s.Get(ctx, account)
	}
	return err
}
