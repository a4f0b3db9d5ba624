package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/postgres"
)

// account is an account of the sandbox with its secrets. The database holds
// only a hash of an API key.
type account struct {
	Name           string `json:"name"`
	Email          string `json:"email"`
	AccountID      string `json:"account_id"`
	APIKey         string `json:"api_key"`
	CallbackSecret string `json:"callback_secret"`
}

// seeds are the accounts that every sandbox has. A new fake Stripe has a
// customer for each.
//
//nolint:gochecknoglobals // a table that nothing writes to
var seeds = []struct{ name, card string }{
	{"visa", "pm_card_visa"},
	// This card can be attached to a customer and declines every charge.
	{"declined", "pm_card_chargeCustomerFail"},
	{"second", "pm_card_visa"},
}

// prepare brings the schema up to date and returns the accounts, in the order
// of seeds. They are the same at each start.
func (s *sandbox) prepare(ctx context.Context, databaseURL string) ([]account, error) {
	s.log.printf("bringing the schema up to date")
	if err := postgres.Migrate(ctx, databaseURL, nil); err != nil {
		return nil, err
	}
	pool, err := postgres.Open(ctx, postgres.Options{URL: databaseURL, ApplicationName: "rocketrides-sandbox", MaxConns: 2})
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	return seed(ctx, accounts.Store{Pool: pool}, filepath.Join(s.data, "accounts.json"))
}

// seed makes the accounts that the database lacks, and returns all. The file at
// path keeps the secrets of all accounts that were ever made, also in other
// databases.
func seed(ctx context.Context, store accounts.Store, path string) ([]account, error) {
	known, err := readAccounts(path)
	if err != nil {
		return nil, err
	}
	stored, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	var seeded []account
	for _, seed := range seeds {
		i := slices.IndexFunc(known, func(a account) bool {
			return a.Name == seed.name && slices.ContainsFunc(stored, func(s accounts.Account) bool { return s.ID == a.AccountID })
		})
		if i < 0 {
			made, err := create(ctx, store, seed.name, seed.card)
			if err != nil {
				return nil, err
			}
			i, known = len(known), append(known, made)
			if err := writeJSON(path, known); err != nil {
				return nil, err
			}
		}
		seeded = append(seeded, known[i])
	}
	return seeded, nil
}

func readAccounts(path string) ([]account, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var known []account
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the accounts of %s: %w", path, err)
	}
	return known, nil
}

func create(ctx context.Context, store accounts.Store, name, card string) (account, error) {
	email := name + "@example.com"
	made, err := store.Create(ctx, accounts.NewAccount{Email: email, StripeCustomer: "cus_" + name, PaymentMethod: card})
	if err != nil {
		return account{}, err
	}
	return account{
		Name: name, Email: email, AccountID: made.AccountID, APIKey: made.APIKey.Reveal(), CallbackSecret: made.CallbackSecret,
	}, nil
}
