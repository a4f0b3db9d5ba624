package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// MaxKeyLength is how many characters an idempotency key may have, after
// unquoting.
const MaxKeyLength = 255

// errKeyMissing means that a request has no Idempotency-Key.
var errKeyMissing = errors.New("the Idempotency-Key header is missing")

// A keyError says what is wrong with an Idempotency-Key. It doesn't contain the
// key.
type keyError struct {
	reason string // a sentence without its full stop, such as "The key is empty"
}

// Error returns the reason.
func (e *keyError) Error() string { return "reading the Idempotency-Key header: " + e.reason }

// readIdempotencyKey returns what [ParseIdempotencyKey] does. It echoes a valid
// field in the answer, whatever that will be, so that the client knows which of
// its requests was answered. The echo is the field as it was sent, so that it
// can be sent again: a quoted key may have characters that a bare one can't.
// The log names the key too.
func readIdempotencyKey(w http.ResponseWriter, r *Request) (string, error) {
	key, err := ParseIdempotencyKey(r.Header)
	if err == nil {
		w.Header().Set("Idempotency-Key", strings.Trim(r.Header.Get("Idempotency-Key"), " \t"))
		r.record.key = key
	}
	return key, err
}

// ParseIdempotencyKey returns the idempotency key in a request's header,
// unquoted. The error says that there is none, or what is wrong with it; a
// handler that returns the error refuses the request with 400.
//
// A value that starts with a quotation mark must be a String of RFC 9651
// without parameters, as in the IETF draft of this header. The key is what is
// inside, and may have every character that such a String can have (0x20 to
// 0x7E). Any other value is the key itself, as most clients send it. It may
// have the characters 0x21 to 0x7E except quotation marks, commas and
// backslashes. So "abc" and abc are one key, and a value that a proxy joined
// from two header lines is refused.
//
// A key that is a programming language's word for nothing, such as undefined,
// is refused in both forms.
func ParseIdempotencyKey(header http.Header) (string, error) {
	lines := header.Values("Idempotency-Key")
	if len(lines) == 0 {
		return "", errKeyMissing
	}
	if len(lines) > 1 {
		return "", &keyError{"The header was sent more than once"}
	}
	return ParseKeyValue(strings.Trim(lines[0], " \t")) // The blanks that RFC 9110 section 5.5 leaves out of a field's value.
}

// ParseKeyValue returns the key that a value of the header means; see
// [ParseIdempotencyKey].
func ParseKeyValue(value string) (string, error) {
	key := value
	quoted := strings.HasPrefix(key, `"`)
	if quoted {
		unquoted, err := unquoteKey(key)
		if err != nil {
			return "", err
		}
		key = unquoted
	}
	switch {
	case slices.Contains(notKeys(), key):
		return "", &keyError{"The key is " + key + ", which a client sends by mistake when its variable holds no key"}
	case !quoted && strings.ContainsFunc(key, notBare):
		return "", &keyError{"A key that is not quoted may hold only visible ASCII characters, and no quotation mark, comma or backslash"}
	case key == "":
		return "", &keyError{"The key is empty"}
	case len(key) > MaxKeyLength:
		return "", &keyError{fmt.Sprintf("The key has more than %d characters", MaxKeyLength)}
	}
	return key, nil
}

// notKeys are what clients send that make a header of a variable without a
// value, or of an object. All of them would share the key, and one would get
// the answer to another's request.
func notKeys() []string { return []string{"null", "undefined", "NaN", "None", "[object Object]"} }

func unquoteKey(value string) (string, error) {
	item, err := httpsfv.UnmarshalItem([]string{value})
	if err != nil {
		return "", &keyError{"The value starts with a quotation mark but is not a String of RFC 9651"}
	}
	if len(item.Params.Names()) > 0 {
		return "", &keyError{"The key has parameters"}
	}
	key, ok := item.Value.(string)
	if !ok {
		return "", &keyError{"The value is not a String of RFC 9651"}
	}
	return key, nil
}

func notBare(char rune) bool {
	return char < 0x21 || char > 0x7e || char == '"' || char == ',' || char == '\\'
}
