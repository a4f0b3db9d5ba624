package accounts

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestAnAccountIsRememberedForHalfAMinute: a revoked key works no longer. What
// counts is when the database was asked, however late it answers.
func TestAnAccountIsRememberedForHalfAMinute(t *testing.T) {
	t.Parallel()
	for _, exists := range []bool{true, false} {
		for age, want := range map[time.Duration]bool{0: true, 30 * time.Second: false} {
			cache := NewAuthenticator(nil, false, nil).accounts
			cache.remember("acct_a", &account{exists: exists, askedAt: time.Now().Add(-age)})
			if _, got := cache.remembered("acct_a"); got != want {
				t.Errorf("an account that exists (%t), asked about %s ago, is remembered: %t, want %t", exists, age, got, want)
			}
		}
	}
}

// TestAnOlderLookUpBringsNoRevokedKeyBack: of two look-ups of an account, the
// one that read before a key was revoked ends last. From then on the key works
// no more.
func TestAnOlderLookUpBringsNoRevokedKeyBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	made := newAccount(t, pool, false)
	var reads atomic.Int32
	read, release := make(chan struct{}), make(chan struct{})
	authenticator := NewAuthenticator(pool, false, func(ctx context.Context, run func(context.Context) error) error {
		err := run(ctx)
		if reads.Add(1) == 1 {
			close(read)
			<-release
		}
		return err
	})
	older := make(chan error)
	go func() {
		_, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey))
		older <- err
	}()
	<-read
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET revoked_at = now() WHERE account_id = $1`, made.AccountID); err != nil {
		t.Fatal(err)
	}
	if _, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after it was revoked: %v", err)
	}
	close(release)
	if err := <-older; err != nil {
		t.Errorf("what was read before it was revoked: %v", err)
	}
	if _, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after the older look-up has ended: %v", err)
	}
}

// TestALookUpThatHangsHoldsUpNobody: the requests of an account share look-ups,
// but not the fate of one whose connection hangs, or whose client hangs up.
func TestALookUpThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	made := newAccount(t, pool, false)
	hanging := &hangingTracer{began: make(chan struct{}), release: make(chan struct{})}
	config := pool.Config()
	config.ConnConfig.Tracer = hanging
	own, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	authenticator := NewAuthenticator(own, false, nil)
	ctx, hangUp := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := authenticator.Authenticate(ctx, bearer(made.APIKey))
		first <- err
	}()
	<-hanging.began
	hangUp()
	if _, err := authenticator.Authenticate(t.Context(), bearer(made.APIKey)); err != nil {
		t.Errorf("beside a look-up that hangs: %v", err)
	}
	close(hanging.release)
	if err := <-first; err != nil {
		t.Errorf("a look-up is shared, but ended with its client: %v", err)
	}
}

// A hangingTracer makes the first query hang.
type hangingTracer struct {
	queries        atomic.Int32
	began, release chan struct{}
}

func (h *hangingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if h.queries.Add(1) == 1 {
		close(h.began)
		<-h.release
	}
	return ctx
}

func (*hangingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestStrangersDisplaceNoAccount: requests with invented ids must not make the
// accounts forgotten.
func TestStrangersDisplaceNoAccount(t *testing.T) {
	t.Parallel()
	cache := newAccountCache(nil, time.Minute, nil)
	now := time.Now()
	cache.remember("acct_a", &account{exists: true, askedAt: now})
	for i := range 2 * maxRemembered {
		cache.remember(fmt.Sprint("acct_", i), &account{askedAt: now})
	}
	if _, ok := cache.remembered("acct_a"); !ok || cache.strangers.Len() > maxRemembered {
		t.Errorf("the account is remembered: %t, beside %d strangers", ok, cache.strangers.Len())
	}
}
