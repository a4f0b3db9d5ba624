package payments

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/stripe/stripe-go/v76/form"
)

// frozenValues returns a frozen form as stripe-go sends it under key. It returns
// an error if that would be other bytes than the frozen ones, or if the form's
// metadata carries another key: what the form makes could not be found again.
func frozenValues(frozen, key string) (*form.Values, error) {
	values := new(form.Values)
	for pair := range strings.SplitSeq(frozen, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		if err := errors.Join(errName, errValue); err != nil {
			return nil, errors.New("the frozen form isn't form-encoded")
		}
		values.Add(name, value)
	}
	switch {
	case values.Encode() != frozen:
		return nil, errors.New("the frozen form would be sent as other bytes")
	case !slices.Contains(values.Get("metadata[operation]"), key):
		return nil, errors.New("the frozen form belongs to another idempotency key")
	}
	return values, nil
}
