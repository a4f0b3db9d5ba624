package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// CanonVersion names the rules of [Canonical]. It is stored with each
// idempotency key, and hashes are compared under the stored version only:
// otherwise a change of these rules would make an honest retry look like a
// different request.
const CanonVersion = 1

// maxDepth is how deeply objects and arrays may nest. A ride needs 2; the limit
// keeps hostile documents cheap.
const maxDepth = 64

// JSONError says why a body was refused before it could be hashed. It holds no
// content of the body, so it may be shown and logged.
type JSONError struct {
	Reason string // a sentence without its full stop, such as "The body is empty"
	Offset int64  // where the fault was noticed, in bytes from the start of the body
}

// Error returns the reason and where it was noticed.
func (e *JSONError) Error() string {
	return e.Reason + " (at byte " + strconv.FormatInt(e.Offset, 10) + ")"
}

// Canonical returns the canonical form of one JSON document by RFC 8785: no
// blanks, members sorted by the UTF-16 code units of their names, strings with
// the fewest escapes, numbers as ECMAScript writes their float64, −0 as 0. Two
// spellings of one document have one canonical form; two different documents
// never share one.
//
// It departs from RFC 8785 in one point. That RFC has no form for a number
// beyond float64, so such a number keeps its text: 1e999 and 1e9999 stay
// different requests, although neither is a valid one. A number too small for
// float64 is 0.
//
// It runs before validation and takes any well-formed document. A *[JSONError]
// refuses everything else: an empty body, more than one document, a member
// named twice, NaN and Infinity, bad UTF-8, half a surrogate pair, and nesting
// deeper than 64. The argument is not changed.
func Canonical(doc []byte) ([]byte, error) {
	if !utf8.Valid(doc) {
		return nil, &JSONError{"The body is not valid UTF-8", invalidUTF8(doc)}
	}
	respelled, err := respell(doc)
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(respelled)
	if err := value.Format(jsontext.ReorderRawObjects(true)); err != nil {
		return nil, fmt.Errorf("sorting the members of a JSON document: %w", err)
	}
	return value, nil
}

// respell copies the document token by token, which checks all of it and leaves
// each string and number in its canonical spelling. Members keep their order.
func respell(doc []byte) ([]byte, error) {
	var out bytes.Buffer
	dec, enc := jsontext.NewDecoder(bytes.NewReader(doc)), jsontext.NewEncoder(&out)
	for done := false; !done; done = dec.StackDepth() == 0 {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, refusal(doc, err)
		}
		if dec.StackDepth() > maxDepth {
			return nil, &JSONError{fmt.Sprintf("The body nests more than %d deep", maxDepth), dec.InputOffset()}
		}
		if token.Kind() == jsontext.KindNumber {
			token = canonicalNumber(token)
		}
		if err := enc.WriteToken(token); err != nil {
			return nil, fmt.Errorf("writing a JSON token: %w", err)
		}
	}
	end := dec.InputOffset()
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &JSONError{"The body goes on after the JSON document", end}
	}
	return out.Bytes(), nil
}

func canonicalNumber(token jsontext.Token) jsontext.Token {
	number, err := token.Float()
	switch {
	case err != nil: // Beyond float64: the token keeps its text.
		return token
	case number == 0: // jsontext would write −0 with its sign.
		return jsontext.Int(0)
	default:
		return jsontext.Float(number)
	}
}

// refusal translates an error of the tokenizer, whose own text quotes the
// document, into one that does not.
func refusal(doc []byte, err error) error {
	if errors.Is(err, io.EOF) {
		return &JSONError{"The body is empty", int64(len(doc))}
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return fmt.Errorf("reading a JSON token: %w", err)
	}
	reason := "The body is not well-formed JSON"
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = "An object in the body has two members of the same name"
	case errors.Is(err, io.ErrUnexpectedEOF):
		reason = "The body ends before its JSON document does"
	case bytes.HasPrefix(doc[syntax.ByteOffset:], []byte(`\u`)):
		reason = `A \u escape in the body is malformed or half of a surrogate pair`
	}
	return &JSONError{reason, syntax.ByteOffset}
}

// invalidUTF8 returns the offset of the first byte that is not part of a valid
// UTF-8 sequence.
func invalidUTF8(doc []byte) int64 {
	at := 0
	for at < len(doc) {
		char, size := utf8.DecodeRune(doc[at:])
		if char == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	return int64(at)
}

// RequestHash fingerprints a request, so that a key used again is told from a
// key used twice. The parts are the HTTP method, the route's pattern, the ids
// in its path in their order, and the document as [Canonical] returned it
// (empty where a route takes none). Each part is preceded by its length, so no
// two requests can be cut differently into the same bytes. The account and the
// key belong to the row that stores the hash, not to the hash.
func RequestHash(method, route string, pathIDs []string, canonical []byte) [32]byte {
	parts := append([]string{method, route}, pathIDs...)
	return phases.Digest(append(parts, string(canonical))...)
}
