package payments

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
)

// An answerTier bounds the memory for answers up to a length: places is how many
// of them are in memory at once, nil means any number. An answer takes up to
// five times its length until it is decoded.
type answerTier struct {
	length int
	places chan struct{}
}

// newAnswerTiers returns the tiers of one process, the shortest first. A payment
// intent is about 5 KB, and a page of a hundred about 300 KB, or 1 MB with the
// charges. The tiers with places take 60 MB at most.
func newAnswerTiers() []answerTier {
	return []answerTier{
		{8 << 10, nil},
		{64 << 10, make(chan struct{}, 64)},
		{1 << 20, make(chan struct{}, 4)},
		{answerLimit, make(chan struct{}, 1)},
	}
}

const (
	answerLimit = 4 << 20 // bytes
	// depthLimit is how deep the objects and arrays of an answer may be nested,
	// and nestingLimit bounds the sum over all bytes of how deep each of them
	// is. stripe-go scans each byte as often as it is nested, and no time-out
	// ends that. Stripe's own answers are nested about ten deep.
	depthLimit   = 64
	nestingLimit = 16 * answerLimit
)

var (
	errTooLong = errors.New("the answer is too long")
	errTooDeep = errors.New("the answer's objects are nested too deeply")
)

// readBody reads an answer to its end, before stripe-go sees it, and returns it
// unless it is too long or nested too deeply. It takes the places of the
// answer's length, until the exchange is over. Waiting for one ends with ctx.
func (x *exchange) readBody(ctx context.Context, answer *http.Response, tiers []answerTier) ([]byte, error) {
	defer func() { _ = answer.Body.Close() }()
	var body bytes.Buffer
	if n := answer.ContentLength; 0 < n && n <= int64(tiers[0].length) {
		body.Grow(int(n) + bytes.MinRead) // it reads until the end, and so for some bytes more
	}
	for _, tier := range tiers {
		if err := x.take(ctx, tier.places); err != nil {
			return nil, err
		}
		more := tier.length - body.Len()
		if body.Len() > 0 {
			body.Grow(more + bytes.MinRead) // else it would grow to twice the length
		}
		_, err := io.CopyN(&body, answer.Body, int64(more))
		if errors.Is(err, io.EOF) {
			return checkNesting(body.Bytes())
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errTooLong
}

// take waits for a place, unless places is nil.
func (x *exchange) take(ctx context.Context, places chan struct{}) error {
	if places == nil {
		return nil
	}
	select {
	case places <- struct{}{}:
		x.places = append(x.places, places)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// done gives the exchange's places to others. What it returned must not be used
// any more.
func (x *exchange) done() {
	for _, places := range x.places {
		<-places
	}
}

// checkNesting returns text, or an error if its objects and arrays are nested
// too deeply. It counts brackets, and decodes nothing.
func checkNesting(text []byte) ([]byte, error) {
	depth, sum, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++ // the next character doesn't end the string
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if sum += depth; depth > depthLimit || sum > nestingLimit {
			return nil, errTooDeep
		}
	}
	return text, nil
}
