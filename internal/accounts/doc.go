// Package accounts keeps the accounts and their API keys, and finds out which
// account a request acts for.
//
//   - store.go, update.go: the accounts and API keys in the database, as the
//     operator manages them
//   - callback_secret.go: the secrets that sign an account's callbacks
//   - apikey.go: what an API key looks like, and how one is made and read
//   - cache.go: the accounts that were asked for lately
//   - authenticator.go: from an Authorization header to the account
//   - guesses.go: what requests without a valid API key can cost
//
// It knows nothing of answers: a request without a valid API key is
// [ErrUnauthenticated], and the HTTP side decides what the client sees.
package accounts
