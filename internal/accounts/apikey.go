package accounts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
)

// An API key is prefix, account, random part and checksum: rr_test_ + 16 + 32 +
// 6 base62 characters. The account comes first because every table is keyed by
// account: the key alone must say in which one to look for its hash.
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
	// ErrAPIKeyMissing says that a request names no API key.
	ErrAPIKeyMissing = errors.New("the Authorization header carries no API key")
	// ErrAPIKeyInvalid says that a text is not an API key of ours: it was never
	// issued.
	ErrAPIKeyInvalid = errors.New("the API key is malformed")
)

// APIKey is a client's secret. It prints, logs and encodes as its
// [APIKey.Hint]; only [APIKey.Reveal] gives it away. It is stored as its hash
// alone. Two keys are compared by hash, not with ==. The zero value is no key.
type APIKey struct {
	// text is behind a pointer because fmt cannot call methods on the
	// unexported fields of a struct: it would print a plain string there, and
	// prints an address instead.
	text *string
}

// NewAPIKey makes a new key for an account. It panics unless accountID has the
// form that [NewAccountID] gives: read the account from the database before
// making a key for it.
func NewAPIKey(accountID string, live bool) APIKey {
	account, ok := strings.CutPrefix(accountID, accountPrefix)
	if !ok || len(account) != accountLength || !isBase62(account) {
		panic("rides: an API key needs an account id as NewAccountID makes it")
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
// so that a typing error or a guess costs no question to the database. That the
// key was issued and is not revoked, only the database can tell. Every refusal
// is [ErrAPIKeyInvalid]; the text is in no error.
func ParseAPIKey(text string) (APIKey, error) {
	if len(text) != apiKeyLength {
		return APIKey{}, ErrAPIKeyInvalid
	}
	prefix, rest := text[:prefixLength], text[prefixLength:]
	body, sum := text[:apiKeyLength-checksumLength], text[apiKeyLength-checksumLength:]
	known := prefix == testPrefix || prefix == livePrefix
	if !known || !isBase62(rest) || sum != checksum(body) {
		return APIKey{}, ErrAPIKeyInvalid
	}
	return APIKey{text: &text}, nil
}

// BearerKey reads the key from the value of an Authorization header (RFC 6750;
// the scheme's case does not matter). It returns [ErrAPIKeyMissing] when the
// value is empty or of another scheme, else what [ParseAPIKey] returns.
func BearerKey(header string) (APIKey, error) {
	scheme, token, _ := strings.Cut(strings.Trim(header, " \t"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return APIKey{}, ErrAPIKeyMissing
	}
	return ParseAPIKey(strings.TrimLeft(token, " "))
}

// Reveal returns the whole key. It is for the one moment when a new key is
// shown to its owner.
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

// Hash returns the SHA-256 of the whole key, the only form in which it is
// stored. A slow hash would add nothing: the random part has 190 bits, so
// nobody can guess it from its hash.
func (k APIKey) Hash() [32]byte { return sha256.Sum256([]byte(k.Reveal())) }

// Hint returns what an owner may see later to tell keys apart: the prefix and
// the last four characters. Those belong to the checksum, so a hint shows no
// character of the random part.
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

// NewAPIKeyID makes the id under which a key is listed and revoked: key_ and 16
// random base62 characters. It says nothing about the key itself.
func NewAPIKeyID() string { return "key_" + randomBase62(16) }

// NewCallbackSecret makes the secret that signs an account's callbacks: whsec_
// and the base64 of 32 random bytes, as Standard Webhooks 1.0.0 has it.
func NewCallbackSecret() string {
	secret := make([]byte, 32)
	rand.Read(secret) // Never fails: crypto/rand ends the process instead.
	return "whsec_" + base64.StdEncoding.EncodeToString(secret)
}

// checksum is the CRC-32 (IEEE) of a text in base62, padded to six characters.
// It finds typing errors; it proves nothing, since anybody can compute it.
func checksum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var digits [checksumLength]byte
	for i := checksumLength - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return string(digits[:])
}

// isBase62 relies on Trim stopping at the first character that is not in the
// set.
func isBase62(text string) bool {
	return strings.Trim(text, base62) == ""
}

// randomBase62 returns n characters, each equally likely. Bytes from 248 on are
// thrown away: 248 is the largest multiple of 62 in a byte, and a remainder
// over all 256 would prefer the first eight characters.
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
