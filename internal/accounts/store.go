package accounts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store keeps the accounts and their API keys.
type Store struct {
	Pool *pgxpool.Pool
}

// An Account is one account, without its secrets.
type Account struct {
	ID             string    `json:"account_id"`
	Email          string    `json:"email"`
	StripeCustomer string    `json:"stripe_customer"`
	PaymentMethod  string    `json:"payment_method"`
	Livemode       bool      `json:"livemode"`
	CreatedAt      time.Time `json:"created_at"`
	// FormerCustomers are the Stripe customers that the account had before.
	FormerCustomers []string `json:"former_customers"`
	// DisabledAt is nil while the account is enabled.
	DisabledAt *time.Time `json:"disabled_at"`
}

// accountColumns are the columns of an Account, in the order of its fields.
const accountColumns = `id, email, stripe_customer, payment_method, livemode, created_at, former_customers, disabled_at`

// NewAccount says what an account to be created is.
type NewAccount struct {
	Email          string
	StripeCustomer string // cus_…
	PaymentMethod  string // pm_…
	Livemode       bool
}

// Credentials are the secrets of a new account. They can be shown only once: of
// the API key nothing but its hash is stored.
type Credentials struct {
	AccountID      string
	APIKey         APIKey
	CallbackSecret string
}

var (
	// ErrNoAccount means that there is no such account.
	ErrNoAccount = errors.New("there is no such account")
	// ErrNoAPIKey means that there is no such active API key.
	ErrNoAPIKey = errors.New("there is no such active API key")
)

// Create makes an account and its first API key.
func (s Store) Create(ctx context.Context, account NewAccount) (Credentials, error) {
	made := Credentials{AccountID: NewAccountID(), CallbackSecret: newCallbackSecret()}
	made.APIKey = NewAPIKey(made.AccountID, account.Livemode)
	err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			INSERT INTO accounts (id, email, stripe_customer, payment_method, livemode, callback_secret)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			made.AccountID, account.Email, account.StripeCustomer, account.PaymentMethod, account.Livemode, made.CallbackSecret,
		); err != nil {
			return err
		}
		return insertKey(ctx, tx, newAPIKeyID(), made.APIKey)
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("creating account: %w", err)
	}
	return made, nil
}

func insertKey(ctx context.Context, tx pgx.Tx, id string, key APIKey) error {
	hash := key.Hash()
	_, err := tx.Exec(ctx, `
		INSERT INTO api_keys (account_id, id, hash, hint)
		VALUES ($1, $2, $3, $4)`,
		key.AccountID(), id, hash[:], key.Hint())
	return err
}

// List returns all accounts, the oldest first.
func (s Store) List(ctx context.Context) ([]Account, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT `+accountColumns+`
		FROM accounts
		ORDER BY created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("listing accounts: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Account])
	if err != nil {
		return nil, fmt.Errorf("listing accounts: %w", err)
	}
	return accounts, nil
}

// An APIKeyRecord is an API key without its secret.
type APIKeyRecord struct {
	ID        string     `json:"key_id"`
	Hint      string     `json:"hint"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// CreateKey makes another API key for an account, in the account's mode, and
// returns the id under which it is listed and the key. Several keys may be
// active at once. The error is [ErrNoAccount] if there is no such account.
func (s Store) CreateKey(ctx context.Context, account string) (string, APIKey, error) {
	id := newAPIKeyID()
	var key APIKey
	err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		var live bool
		if err := tx.QueryRow(ctx, `
			SELECT livemode
			FROM accounts
			WHERE id = $1`,
			account).Scan(&live); err != nil {
			return err
		}
		key = NewAPIKey(account, live)
		return insertKey(ctx, tx, id, key)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", APIKey{}, ErrNoAccount
	}
	if err != nil {
		return "", APIKey{}, fmt.Errorf("creating API key: %w", err)
	}
	return id, key, nil
}

// ListKeys returns an account's API keys, revoked ones included, the oldest
// first.
func (s Store) ListKeys(ctx context.Context, account string) ([]APIKeyRecord, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT id, hint, created_at, revoked_at
		FROM api_keys
		WHERE account_id = $1
		ORDER BY created_at, id`,
		account)
	if err != nil {
		return nil, fmt.Errorf("listing API keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[APIKeyRecord])
	if err != nil {
		return nil, fmt.Errorf("listing API keys: %w", err)
	}
	return keys, nil
}

// RevokeKey revokes the API key with the given id. Every process refuses it
// within 30 seconds. The error is [ErrNoAPIKey] if there is no such key, or if
// it is revoked already.
func (s Store) RevokeKey(ctx context.Context, id string) error {
	var account string
	err := s.Pool.QueryRow(ctx, `
		SELECT account_id
		FROM api_keys
		WHERE id = $1 AND revoked_at IS NULL`,
		id).Scan(&account)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoAPIKey
	}
	if err == nil {
		_, err = s.Pool.Exec(ctx, `
			UPDATE api_keys
			SET revoked_at = now()
			WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL`,
			account, id)
	}
	if err != nil {
		return fmt.Errorf("revoking API key: %w", err)
	}
	return nil
}
