package accounts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
)

// An API key consists of a prefix, the account's id, a random part and a
// checksum: rr_test_ and then 16, 32 and 6 base62 characters. The account's id
// is in it because every table is keyed by account: without it, the hash could
// not be looked up.
const (
	testPrefix     = "rr_test_"
	livePrefix     = "rr_live_"
	accountPrefix  = "acct_"
	accountLength  = 16
	randomLength   = 32
	checksumLength = 6
	prefixLength   = len(testPrefix)
	apiKeyLength   = prefixLength + accountLength + randomLength + checksumLength
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var (
	// errAPIKeyMissing means that a request has no API key.
	errAPIKeyMissing = fmt.Errorf("%w: missing", ErrUnauthenticated)
	// errAPIKeyInvalid means that a text is not an API key, so it was never
	// issued.
	errAPIKeyInvalid = fmt.Errorf("%w: malformed", ErrUnauthenticated)
)

// An APIKey is a client's secret. Printed, logged or encoded it shows its
// [APIKey.Hint] only; [APIKey.Reveal] returns the secret. The database holds
// nothing but its hash. Compare two keys by their hashes, not with ==. The zero
// value is not a key.
type APIKey struct {
	// text is a pointer because fmt doesn't call methods on unexported fields
	// of a struct: there it would print a string, but prints a pointer's
	// address.
	text *string
}

// NewAPIKey makes a new key for an account, for real money if live is true. It
// panics unless accountID has the form that [NewAccountID] returns, so read the
// account from the database first.
func NewAPIKey(accountID string, live bool) APIKey {
	account, ok := strings.CutPrefix(accountID, accountPrefix)
	if !ok || len(account) != accountLength || !isBase62(account) {
		panic("accounts: an API key needs an account id as NewAccountID makes it")
	}
	prefix := testPrefix
	if live {
		prefix = livePrefix
	}
	text := prefix + account + randomBase62(randomLength)
	text += checksum(text)
	return APIKey{text: &text}
}

// ParseAPIKey reads a key and checks its prefix, length, alphabet and checksum,
// so that a mistyped or guessed key costs no query. Only the database knows
// whether the key was issued and not revoked. The error is always
// [ErrUnauthenticated] and doesn't contain the text.
func ParseAPIKey(text string) (APIKey, error) {
	if len(text) != apiKeyLength {
		return APIKey{}, errAPIKeyInvalid
	}
	prefix, rest := text[:prefixLength], text[prefixLength:]
	body, sum := text[:apiKeyLength-checksumLength], text[apiKeyLength-checksumLength:]
	known := prefix == testPrefix || prefix == livePrefix
	if !known || !isBase62(rest) || sum != checksum(body) {
		return APIKey{}, errAPIKeyInvalid
	}
	return APIKey{text: &text}, nil
}

// BearerKey reads the key from the value of an Authorization header (RFC 6750;
// the case of the scheme does not matter). The error is always
// [ErrUnauthenticated].
func BearerKey(header string) (APIKey, error) {
	scheme, token, _ := strings.Cut(strings.Trim(header, " \t"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return APIKey{}, errAPIKeyMissing
	}
	return ParseAPIKey(strings.TrimLeft(token, " "))
}

// Reveal returns the whole key. Call it only to show a new key to its owner.
func (k APIKey) Reveal() string {
	if k.text == nil {
		return ""
	}
	return *k.text
}

// AccountID returns the id of the account that the key belongs to, or "" for
// the zero value.
func (k APIKey) AccountID() string {
	if k.text == nil {
		return ""
	}
	return accountPrefix + (*k.text)[prefixLength:prefixLength+accountLength]
}

// Live reports whether the key moves real money.
func (k APIKey) Live() bool { return strings.HasPrefix(k.Reveal(), livePrefix) }

// Hash returns the SHA-256 of the whole key, which is all that is stored of it.
// A slow hash would add nothing: the random part has 190 bits, too many to
// guess it from its hash.
func (k APIKey) Hash() [32]byte {
	return sha256.Sum256(append(make([]byte, 0, apiKeyLength), k.Reveal()...)) // on the stack
}

// Hint returns what its owner may see later to tell keys apart: the prefix and
// the last four characters. Those belong to the checksum, so a hint shows
// nothing of the random part.
func (k APIKey) Hint() string {
	if k.text == nil {
		return ""
	}
	text := *k.text
	return text[:prefixLength] + "…" + text[apiKeyLength-4:]
}

// String returns the hint.
func (k APIKey) String() string { return k.Hint() }

// Format writes the hint, whatever the verb and flags.
func (k APIKey) Format(state fmt.State, _ rune) { fmt.Fprint(state, k.Hint()) }

// LogValue returns the hint.
func (k APIKey) LogValue() slog.Value { return slog.StringValue(k.Hint()) }

// MarshalText returns the hint; JSON and other encodings use it too.
func (k APIKey) MarshalText() ([]byte, error) { return []byte(k.Hint()), nil }

// NewAccountID makes a new account's id: acct_ and 16 random base62 characters.
func NewAccountID() string { return accountPrefix + randomBase62(accountLength) }

// newAPIKeyID makes the id under which a key is listed and revoked: key_ and 16
// random base62 characters. It is not part of the key.
func newAPIKeyID() string { return "key_" + randomBase62(16) }

// newCallbackSecret makes the secret that signs an account's callbacks: whsec_
// and the base64 of 32 random bytes, as in Standard Webhooks 1.0.0.
func newCallbackSecret() string {
	secret := make([]byte, 32)
	rand.Read(secret) // Never fails: crypto/rand ends the process instead.
	return "whsec_" + base64.StdEncoding.EncodeToString(secret)
}

// checksum returns the CRC-32 (IEEE) of a text in base62, padded to six
// characters. It finds typing errors. It proves nothing: anybody can compute
// it.
func checksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var digits [checksumLength]byte
	for i := checksumLength - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

// isBase62 reports whether a text has base62 characters only. Trim stops at the
// first character that is not in its set.
func isBase62(text string) bool {
	return strings.Trim(text, base62) == ""
}

// randomBase62 returns n characters, each equally likely. It discards bytes
// from 248 on, because 248 is the largest multiple of 62 in a byte: the
// remainders of all 256 values would prefer the first eight characters.
func randomBase62(n int) string {
	text := make([]byte, 0, n)
	random := make([]byte, 2*n)
	for len(text) < n {
		rand.Read(random) // Never fails: crypto/rand ends the process instead.
		for _, b := range random {
			if b < 248 && len(text) < n {
				text = append(text, base62[b%62])
			}
		}
	}
	return string(text)
}
