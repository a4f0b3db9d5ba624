// Package accounts knows who asks: the accounts, and the API keys that
// authenticate them.
package accounts
