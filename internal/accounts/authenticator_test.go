package accounts

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// newAccount makes an account in the given mode.
func newAccount(t *testing.T, pool *pgxpool.Pool, live bool) Credentials {
	t.Helper()
	made, err := Store{Pool: pool}.Create(t.Context(), NewAccount{
		Email: "a@example.com", StripeCustomer: "cus_1", PaymentMethod: "pm_1", Livemode: live,
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func bearer(keys ...APIKey) http.Header {
	header := http.Header{}
	for _, key := range keys {
		header.Add("Authorization", "Bearer "+key.Reveal())
	}
	return header
}

func TestAnActiveKeyNamesItsAccount(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, live := range []bool{false, true} {
		made := newAccount(t, pool, live)
		authenticator := NewAuthenticator(pool, live)
		want := Principal{AccountID: made.AccountID, Customer: "cus_1", PaymentMethod: "pm_1", Live: live}
		for range 2 { // looked up, then remembered
			got, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v, principal (-want +got):\n%s", err, diff)
			}
		}
	}
}

func TestEveryOtherRequestIsUnauthenticated(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	test, live := newAccount(t, pool, false), newAccount(t, pool, true)
	id, revoked, err := Store{Pool: pool}.CreateKey(t.Context(), test.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	if err := (Store{Pool: pool}).RevokeKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// A key of the right mode for an account of the other one is never issued;
	// the account decides all the same.
	crossed := NewAPIKey(live.AccountID, false)
	hash := crossed.Hash()
	if _, err := pool.Exec(t.Context(), `
		INSERT INTO api_keys (account_id, id, hash, hint)
		VALUES ($1, 'key_crossed', $2, '')`,
		live.AccountID, hash[:]); err != nil {
		t.Fatal(err)
	}
	authenticator := NewAuthenticator(pool, false)
	for name, header := range map[string]http.Header{
		"no header":                  {},
		"an empty header":            {"Authorization": {""}},
		"another scheme":             {"Authorization": {"Basic abc"}},
		"a malformed key":            {"Authorization": {"Bearer abc"}},
		"two headers":                bearer(test.APIKey, test.APIKey),
		"a key of the other mode":    bearer(live.APIKey),
		"a key that nobody issued":   bearer(NewAPIKey(test.AccountID, false)),
		"a revoked key":              bearer(revoked),
		"an account of another mode": bearer(crossed),
	} {
		for range 2 { // a refusal isn't remembered as a success
			if who, err := authenticator.Authenticate(t.Context(), header); !errors.Is(err, ErrUnauthenticated) || who != (Principal{}) {
				t.Errorf("%s: %+v, %v", name, who, err)
			}
		}
	}
}

// TestAuthenticationIsRemembered: a key that worked costs no further query, and
// still works for a while when it is revoked.
func TestAuthenticationIsRemembered(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	made := newAccount(t, pool, false)
	own := pgtest.Open(t, postgres.Options{URL: pool.Config().ConnString()})
	authenticator := NewAuthenticator(own, false)
	want, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey))
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	if got, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); err != nil || got != want {
		t.Errorf("without a database: %+v, %v", got, err)
	}
	if _, err := authenticator.Authenticate(t.Context(), bearer(NewAPIKey(made.AccountID, false))); err == nil || errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a key that cannot be looked up: %v", err)
	}
	if promised := 30 * time.Second; principalTTL > promised {
		t.Errorf("a revoked key works for %s, at most %s are promised", principalTTL, promised)
	}
}
