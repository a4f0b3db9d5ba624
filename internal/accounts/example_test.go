package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/rocketrides/rocketrides/internal/accounts"
)

const key = "rr_test_0123456789ABCDEFabcdefghijklmnopqrstuvwxyz0123454ITlM3"

// A key names its account and shows no more of itself than a hint.
func ExampleParseAPIKey() {
	parsed, err := accounts.ParseAPIKey(key)
	fmt.Println(parsed, parsed.AccountID(), parsed.Live(), err)
	_, err = accounts.ParseAPIKey("rr_test_0123456789ABCDEFabcdefghijklmnopqrstuvwxyz0123454ITlM4")
	fmt.Println(err)
	// Output:
	// rr_test_…TlM3 acct_0123456789ABCDEF false <nil>
	// no valid API key: malformed
}

func ExampleBearerKey() {
	parsed, err := accounts.BearerKey("Bearer " + key)
	fmt.Println(parsed, err)
	_, err = accounts.BearerKey("Basic dXNlcjpwYXNz")
	fmt.Println(err)
	// Output:
	// rr_test_…TlM3 <nil>
	// no valid API key: missing
}

// Every request without a valid key is refused with the same sentinel. A key of
// the wrong form or mode is refused without asking the database.
func ExampleAuthenticator_Authenticate() {
	authenticator := accounts.NewAuthenticator(nil, true, nil)
	for _, header := range []http.Header{
		{},
		{"Authorization": {"Bearer " + key}},
		{"Authorization": {"Bearer " + key, "Bearer " + key}},
	} {
		_, err := authenticator.Authenticate(context.Background(), header)
		fmt.Println(errors.Is(err, accounts.ErrUnauthenticated), err)
	}
	// Output:
	// true no valid API key: missing
	// true no valid API key: API key of the other mode
	// true no valid API key: several Authorization headers
}
