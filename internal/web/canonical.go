package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// CanonVersion is the version of the rules of [Canonical]. It is stored with
// each idempotency key, and hashes are compared under the stored version only:
// otherwise a change of the rules would make a retry look like another request.
const CanonVersion = 1

// maxDepth is how deeply objects and arrays may nest. A ride needs 2. The limit
// keeps hostile documents cheap.
const maxDepth = 64

// A JSONError says what is wrong with a body that has no canonical form. It
// holds nothing of the body, so it may be shown and logged.
type JSONError struct {
	Reason string // a sentence without its full stop, such as "The body is empty"
	Offset int64  // where the fault was noticed, in bytes from the start of the body
}

// Error returns the reason and the offset.
func (e *JSONError) Error() string {
	return e.Reason + " (at byte " + strconv.FormatInt(e.Offset, 10) + ")"
}

// Canonical returns the canonical form of one JSON document by RFC 8785: no
// blanks, members sorted by the UTF-16 code units of their names, strings with
// the fewest escapes, numbers as ECMAScript writes their float64, −0 as 0. All
// spellings of one document have the same canonical form, and different
// documents have different ones.
//
// It differs from RFC 8785 in one point: a number beyond float64, for which the
// RFC has no form, keeps its text. So 1e999 and 1e9999 are different requests,
// although neither is valid. A number too small for float64 is 0.
//
// It runs before validation and accepts any well-formed document. The error is
// a *[JSONError] for everything else: an empty body, more than one document, a
// member named twice, NaN and Infinity, invalid UTF-8, half a surrogate pair,
// and nesting deeper than 64. The argument is not changed.
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

// A speller is what respell works with.
type speller struct {
	in  bytes.Reader
	out bytes.Buffer
	dec *jsontext.Decoder
	enc *jsontext.Encoder
}

// spellers are those that are not in use. A new one allocates thirty times for
// a ride, and one that was used before not at all.
//
//nolint:gochecknoglobals // it holds no state
var spellers = sync.Pool{New: func() any {
	var s speller
	s.dec, s.enc = jsontext.NewDecoder(&s.in), jsontext.NewEncoder(&s.out)
	return &s
}}

// respell copies the document token by token, which checks it and gives each
// string and number its canonical spelling. Members keep their order.
func respell(doc []byte) ([]byte, error) {
	s, _ := spellers.Get().(*speller)
	defer spellers.Put(s)
	s.in.Reset(doc)
	s.dec.Reset(&s.in)
	s.out.Reset()
	s.enc.Reset(&s.out, jsontext.AllowDuplicateNames(true)) // dec has looked for them
	for done := false; !done; done = s.dec.StackDepth() == 0 {
		token, err := s.dec.ReadToken()
		if err != nil {
			return nil, jsonError(doc, err)
		}
		if s.dec.StackDepth() > maxDepth {
			return nil, &JSONError{fmt.Sprintf("The body nests more than %d deep", maxDepth), s.dec.InputOffset()}
		}
		if token.Kind() == jsontext.KindNumber {
			token = canonicalNumber(token)
		}
		if err := s.enc.WriteToken(token); err != nil {
			return nil, fmt.Errorf("writing a JSON token: %w", err)
		}
	}
	end := s.dec.InputOffset()
	if _, err := s.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &JSONError{"The body goes on after the JSON document", end}
	}
	return bytes.Clone(s.out.Bytes()), nil
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

// jsonError translates an error of the tokenizer, whose text quotes the
// document, into one that doesn't.
func jsonError(doc []byte, err error) error {
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

// Hash returns the hash of what the request asks for, by which a retry is told
// from another request under the same key. body is its body as [Canonical]
// returned it. Account and key are not part of the hash: it is stored in their
// row.
func (r *Request) Hash(body []byte) [32]byte {
	var ids []string
	for _, id := range r.PathIDs() {
		ids = append(ids, id.Value)
	}
	return requestHash(r.Method, r.Pattern, ids, body)
}

// requestHash covers the HTTP method, the route's pattern, the ids in the path
// in their order, and the body. Each part is preceded by its length, so that
// parts that are divided differently never give the same bytes.
func requestHash(method, pattern string, pathIDs []string, body []byte) [32]byte {
	parts := append(append(make([]string, 0, 8), method, pattern), pathIDs...)
	return phases.Digest(append(parts, string(body))...)
}
