package payments

import (
	"errors"
	"iter"
	"net/url"
	"strings"
)

// errForm means that a form isn't form-encoded.
var errForm = errors.New("the frozen form isn't form-encoded")

// Check returns an error if the form isn't the one that was frozen for an
// idempotency key.
func (f ChargeForm) Check(key string) error { return checkFrozen(string(f), key) }

// Check returns an error if the form isn't the one that was frozen for an
// idempotency key.
func (f RefundForm) Check(key string) error { return checkFrozen(string(f), key) }

// checkFrozen returns an error if a frozen form can't be read, or if its
// metadata carries another key than the one that it is to be sent under: what
// the form makes could not be found again, and what it names may be another
// key's, which must not be adopted.
func checkFrozen(frozen, key string) error {
	found := false
	for name, value := range fields(frozen) {
		if name == "" {
			return errForm
		}
		found = found || name == "metadata[operation]" && value == key
	}
	if !found {
		return errors.New("the frozen form belongs to another idempotency key")
	}
	return nil
}

// fields returns the fields of a form in their order. If one of them isn't
// form-encoded, a field without a name takes its place, and is the last.
func fields(form string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(form, "&") {
			name, value, _ := strings.Cut(pair, "=")
			name, errName := url.QueryUnescape(name)
			value, errValue := url.QueryUnescape(value)
			if errName != nil || errValue != nil {
				yield("", "")
				return
			}
			if !yield(name, value) {
				return
			}
		}
	}
}

// A formWriter encodes a form as stripe-go does, without its reflection.
type formWriter struct{ strings.Builder }

// add adds a field. Its name must not need an escape; stripe-go has none for
// brackets.
func (w *formWriter) add(name, value string) {
	if w.Len() > 0 {
		w.WriteByte('&')
	}
	w.WriteString(name)
	w.WriteByte('=')
	w.WriteString(url.QueryEscape(value))
}
