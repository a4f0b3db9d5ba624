package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"
)

// MaxKeyLength is how many characters an idempotency key may have, after
// unquoting.
const MaxKeyLength = 255

// ErrKeyMissing says that a request which needs an Idempotency-Key has none.
var ErrKeyMissing = errors.New("the Idempotency-Key header is missing")

// KeyError says why an Idempotency-Key header was refused. It holds nothing of
// the key.
type KeyError struct {
	Reason string // a sentence without its full stop, such as "The key is empty"
}

// Error returns the reason.
func (e *KeyError) Error() string { return "reading the Idempotency-Key header: " + e.Reason }

// ParseIdempotencyKey returns the idempotency key of a request, unquoted. It
// returns [ErrKeyMissing] when there is no such header and a *[KeyError] when
// its form is wrong; neither consumes a key.
//
// A value whose first byte is a quotation mark must be a String of RFC 9651
// without parameters, as the IETF draft of this header has it; the key is what
// is inside, and may hold every character that such a String can (0x20 to
// 0x7E). Any other value is the key itself, as most clients send it, and must
// hold only 0x21 to 0x7E without quotation marks, commas and backslashes. So
// "abc" and abc are one key, a value that a proxy joined from two lines is
// refused, and no bare value could also be read as a quoted one.
func ParseIdempotencyKey(header http.Header) (string, error) {
	lines := header.Values("Idempotency-Key")
	if len(lines) == 0 {
		return "", ErrKeyMissing
	}
	if len(lines) > 1 {
		return "", &KeyError{"The header was sent more than once"}
	}
	key := strings.Trim(lines[0], " \t") // The blanks that RFC 9110 section 5.5 leaves out of a field's value.
	if strings.HasPrefix(key, `"`) {
		unquoted, err := unquoteKey(key)
		if err != nil {
			return "", err
		}
		key = unquoted
	} else if strings.ContainsFunc(key, notBare) {
		return "", &KeyError{"A key that is not quoted may hold only visible ASCII characters, and no quotation mark, comma or backslash"}
	}
	switch {
	case key == "":
		return "", &KeyError{"The key is empty"}
	case len(key) > MaxKeyLength:
		return "", &KeyError{"The key has more than 255 characters"}
	}
	return key, nil
}

func unquoteKey(value string) (string, error) {
	item, err := httpsfv.UnmarshalItem([]string{value})
	if err != nil {
		return "", &KeyError{"The value starts with a quotation mark but is not a String of RFC 9651"}
	}
	if len(item.Params.Names()) > 0 {
		return "", &KeyError{"The key has parameters"}
	}
	key, ok := item.Value.(string)
	if !ok {
		return "", &KeyError{"The value is not a String of RFC 9651"}
	}
	return key, nil
}

func notBare(char rune) bool {
	return char < 0x21 || char > 0x7e || char == '"' || char == ',' || char == '\\'
}
