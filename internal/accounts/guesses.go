package accounts

import (
	"context"
	"errors"
	"net/http"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// ErrTooManyGuesses means that too many requests of the same sender had no
// valid API key. It may pass within a second.
var ErrTooManyGuesses = errors.New("too many requests without a valid API key")

// guesses bounds what requests without a valid API key can cost.
type guesses struct {
	failures *limit.Failures // of each sender
	// worked holds the hashes of API keys that were valid when they were used
	// last. So a sender who shares its address with others, or with an
	// attacker, is not shut out with them.
	worked *lru.Cache[[32]byte, struct{}]
}

func newGuesses() guesses {
	worked, err := lru.New[[32]byte, struct{}](maxRemembered)
	if err != nil {
		panic("accounts: " + err.Error()) // the size is positive
	}
	return guesses{failures: limit.NewFailures(limit.Rate{PerSecond: 10, Burst: 100}), worked: worked}
}

// AuthenticateFrom is Authenticate for a request of a sender, who is named by
// its address. Of each sender 100 requests with an unknown API key may fail at
// once and 10 in a second; requests with one API key that come at once count as
// one, because a valid key may be new to this process. Beyond that its requests
// are refused with ErrTooManyGuesses, and nothing is looked up for them, unless
// they have an API key that was valid before.
func (a *Authenticator) AuthenticateFrom(ctx context.Context, header http.Header, sender string) (Principal, error) {
	key, err := a.parse(header)
	if err != nil {
		return Principal{}, err // it costs nothing, so it isn't counted
	}
	hash := key.Hash()
	known := a.guesses.worked.Contains(hash)
	done, ok := a.guesses.failures.Try(sender, hash)
	if !ok && !known {
		return Principal{}, ErrTooManyGuesses
	}
	who, err := a.authenticate(ctx, key)
	failed := errors.Is(err, ErrUnauthenticated)
	switch {
	case err == nil:
		a.guesses.worked.Add(hash, struct{}{})
	case failed:
		a.guesses.worked.Remove(hash)
	}
	if ok {
		done(failed)
	}
	return who, err
}
