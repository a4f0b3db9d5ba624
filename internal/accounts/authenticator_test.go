package accounts

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/phases"
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
		authenticator := NewAuthenticator(pool, live, nil)
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
	disabled := newAccount(t, pool, false)
	if _, err := pool.Exec(t.Context(), `UPDATE accounts SET disabled_at = now() WHERE id = $1`, disabled.AccountID); err != nil {
		t.Fatal(err)
	}
	authenticator := NewAuthenticator(pool, false, nil)
	for name, header := range map[string]http.Header{
		"no header":                  {},
		"an empty header":            {"Authorization": {""}},
		"another scheme":             {"Authorization": {"Basic abc"}},
		"a malformed key":            {"Authorization": {"Bearer abc"}},
		"two headers":                bearer(test.APIKey, test.APIKey),
		"a key of the other mode":    bearer(live.APIKey),
		"a key that nobody issued":   bearer(NewAPIKey(test.AccountID, false)),
		"a revoked key":              bearer(revoked),
		"a disabled account":         bearer(disabled.APIKey),
		"an account that isn't":      bearer(NewAPIKey(NewAccountID(), false)),
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
	authenticator := NewAuthenticator(own, false, nil)
	want, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey))
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	if _, err := authenticator.Authenticate(t.Context(), bearer(NewAPIKey(made.AccountID, false))); err == nil || errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a key that cannot be looked up: %v", err)
	}
	if got, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); err != nil || got != want {
		t.Errorf("without a database: %+v, %v", got, err)
	}
}

// TestAChangeIsInForceInTime: what is remembered is forgotten after its time.
func TestAChangeIsInForceInTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for name, change := range map[string]struct {
		sql  string
		want Principal // its account is filled in; without a customer: refused
	}{
		"a revoked key":      {`UPDATE api_keys SET revoked_at = now() WHERE account_id = $1`, Principal{}},
		"a disabled account": {`UPDATE accounts SET disabled_at = now() WHERE id = $1`, Principal{}},
		"another customer":   {`UPDATE accounts SET stripe_customer = 'cus_2' WHERE id = $1`, Principal{Customer: "cus_2", PaymentMethod: "pm_1"}},
		"another card":       {`UPDATE accounts SET payment_method = 'pm_2' WHERE id = $1`, Principal{Customer: "cus_1", PaymentMethod: "pm_2"}},
		"another e-mail":     {`UPDATE accounts SET email = '' WHERE id = $1`, Principal{Customer: "cus_1", PaymentMethod: "pm_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := newAccount(t, pool, false)
			const ttl = 300 * time.Millisecond
			authenticator := &Authenticator{accounts: newAccountCache(pool, ttl, phases.Rerun)}
			if _, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(t.Context(), change.sql, made.AccountID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(ttl)
			want := change.want
			if want.Customer != "" {
				want.AccountID = made.AccountID
			}
			got, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey))
			if got != want || errors.Is(err, ErrUnauthenticated) != (want == Principal{}) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

// TestGuessesCostFewQueries: API keys that nobody issued cost two queries at
// most for each account and second, however many they are, and a key that was just
// issued works nevertheless.
func TestGuessesCostFewQueries(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	made := newAccount(t, pool, false)
	var queries atomic.Int32
	config := pool.Config()
	config.ConnConfig.Tracer = countingTracer{&queries}
	own, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	authenticator := NewAuthenticator(own, false, nil)
	if _, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); err != nil {
		t.Fatal(err)
	}
	_, fresh, err := Store{Pool: pool}.CreateKey(t.Context(), made.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	queries.Store(0)
	start := time.Now()
	var group sync.WaitGroup
	for _, account := range []string{made.AccountID, NewAccountID()} {
		for i := range 200 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				if _, err := authenticator.Authenticate(t.Context(), bearer(NewAPIKey(account, false))); !errors.Is(err, ErrUnauthenticated) {
					t.Errorf("a guess: %v", err)
				}
			})
		}
	}
	group.Go(func() {
		if _, err := authenticator.Authenticate(t.Context(), bearer(fresh)); err != nil {
			t.Errorf("a key that was just issued: %v", err)
		}
	})
	group.Wait()
	if got, most := int(queries.Load()), 2*atOnce*int(time.Since(start)/time.Second+1); got > most {
		t.Errorf("%d queries, want at most %d", got, most)
	}
}

// TestEachSenderHasItsOwnGuesses: while all that one sender may try is being
// looked up, it is refused, and another one is not.
func TestEachSenderHasItsOwnGuesses(t *testing.T) {
	t.Parallel()
	const burst = 100
	began, release := make(chan struct{}, burst+1), make(chan struct{})
	authenticator := NewAuthenticator(nil, false, func(context.Context, func(context.Context) error) error {
		began <- struct{}{}
		<-release
		return nil // no account was found
	})
	guess := func(sender string) error {
		_, err := authenticator.AuthenticateFrom(t.Context(), bearer(NewAPIKey(NewAccountID(), false)), sender)
		return err
	}
	var group sync.WaitGroup
	begin := func(sender string) {
		group.Go(func() {
			if err := guess(sender); !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("a guess of %s: %v", sender, err)
			}
		})
	}
	for range burst {
		begin("192.0.2.1")
	}
	for range burst {
		<-began
	}
	if err := guess("192.0.2.1"); !errors.Is(err, ErrTooManyGuesses) {
		t.Errorf("guess %d of one sender: %v", burst+1, err)
	}
	begin("192.0.2.2")
	close(release)
	group.Wait()
}

// A countingTracer counts queries.
type countingTracer struct{ queries *atomic.Int32 }

func (c countingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}

func (countingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
