package accounts

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// A former secret signs until its time is over, however often the secret was
// rotated since, and is then forgotten.
func TestRotationKeepsFormerSecretsForAWhile(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store, made := Store{Pool: pool}, newAccount(t, pool, false)
	rotate := func(overlap time.Duration) string {
		t.Helper()
		var now time.Time
		if err := pool.QueryRow(t.Context(), `SELECT now()`).Scan(&now); err != nil {
			t.Fatal(err)
		}
		secret, until, err := store.RotateCallbackSecret(t.Context(), made.AccountID, overlap)
		if err != nil {
			t.Fatal(err)
		}
		if got := until.Sub(now) - overlap; got < 0 || got > time.Minute {
			t.Errorf("the former secret is good until %s, want %s after %s", until, overlap, now)
		}
		return secret
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		if err := pool.QueryRow(t.Context(), `
			SELECT callback_secret || former_callback_secrets FROM accounts
			WHERE id = $1 AND cardinality(former_callback_secrets) = cardinality(former_callback_secrets_until)`,
			made.AccountID).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the secrets are %q, want %q", got, want)
		}
	}
	first := rotate(24 * time.Hour)
	check(first, made.CallbackSecret)
	second := rotate(24 * time.Hour)
	check(second, first, made.CallbackSecret)
	if first == second || first == made.CallbackSecret || len(first) != len(made.CallbackSecret) {
		t.Errorf("the secrets are %q, %q and %q", made.CallbackSecret, first, second)
	}
	if _, err := pool.Exec(t.Context(), `
		UPDATE accounts SET former_callback_secrets_until[2] = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	third := rotate(time.Hour)
	check(third, second, first)
	fourth := rotate(0)
	check(fourth)
}

func TestRotationNeedsAnAccount(t *testing.T) {
	t.Parallel()
	secret, _, err := Store{Pool: pgtest.New(t)}.RotateCallbackSecret(t.Context(), "acct_none", time.Hour)
	if !errors.Is(err, ErrNoAccount) || secret != "" {
		t.Errorf("%q, %v", secret, err)
	}
}
