package rides

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

const (
	// principalTTL is how long an authentication is believed without asking
	// again, and so how long a revoked key may still work.
	principalTTL = 30 * time.Second
	// principalsKept bounds the memory for it.
	principalsKept = 10_000
)

// principal is who a request acts for.
type principal struct {
	account string
	payer   payer
}

type principalKey struct{}

// principalOf is the principal of an authenticated request.
func principalOf(ctx context.Context) principal {
	who, _ := ctx.Value(principalKey{}).(principal)
	return who
}

// authenticated lets only requests with an active API key pass.
func (s *Service) authenticated(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := s.authenticate(r)
		if err != nil && problemFor(err).Problem.Code == web.CodeUnauthenticated {
			// RFC 9110, section 15.5.2, demands the header; RFC 6750, section
			// 3, gives its form.
			w.Header().Set("WWW-Authenticate", `Bearer realm="rocketrides"`)
		}
		if err != nil {
			return err
		}
		visitOf(r.Context()).account = who.account
		return next(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, who)))
	}
}

// authenticate finds the principal of the request's API key. Form, checksum and
// mode are judged before the database is asked.
func (s *Service) authenticate(r *http.Request) (principal, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return principal{}, web.NewProblemError(web.CodeUnauthenticated, errors.New("several Authorization headers"))
	}
	key, err := accounts.BearerKey(r.Header.Get("Authorization"))
	if err != nil {
		return principal{}, err
	}
	if key.Live() != s.live {
		return principal{}, web.NewProblemError(web.CodeUnauthenticated, errors.New("API key of the other mode"))
	}
	if who, ok := s.principals.Get(key.Hash()); ok {
		return who, nil
	}
	who, err := s.lookUpKey(r.Context(), key)
	if err != nil {
		return principal{}, err
	}
	s.principals.Add(key.Hash(), who)
	return who, nil
}

// lookUpKey finds an active API key. The hash covers the whole key, so finding
// it is the comparison; its timing tells nothing that helps to guess 190 random
// bits.
func (s *Service) lookUpKey(ctx context.Context, key accounts.APIKey) (principal, error) {
	hash := key.Hash()
	who := principal{account: key.AccountID()}
	err := s.read(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `
			SELECT a.stripe_customer, a.payment_method, a.livemode
			FROM api_keys k JOIN accounts a ON a.id = k.account_id
			WHERE k.account_id = $1 AND k.hash = $2 AND k.revoked_at IS NULL`,
			who.account, hash[:]).Scan(&who.payer.customer, &who.payer.paymentMethod, &who.payer.live)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return principal{}, web.NewProblemError(web.CodeUnauthenticated, errors.New("unknown or revoked API key"))
	case err != nil:
		return principal{}, fmt.Errorf("looking up API key: %w", err)
	case who.payer.live != s.live:
		return principal{}, web.NewProblemError(web.CodeUnauthenticated, errors.New("account of the other mode"))
	}
	return who, nil
}

// readTimeout bounds one read of the database for one request.
const readTimeout = 5 * time.Second

// read makes one read of the database, and repeats it where the connection
// turns out to be dead: after a restart of Postgres the pool is full of those,
// and reading again changes nothing.
func (s *Service) read(ctx context.Context, query func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return phases.Reread(ctx, query)
}
