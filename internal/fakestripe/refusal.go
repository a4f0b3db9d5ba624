package fakestripe

import (
	"cmp"
	"net/http"
	"time"
)

// refusal returns the answer to a request of which the fault executes nothing,
// and reports whether the fault is of that sort.
func (f *Fault) refusal(s *Send) (answer, bool) {
	if f.Kind == DropBefore {
		return answer{drop: true}, true
	}
	if f.Kind == BadGateway502 {
		return answer{status: http.StatusBadGateway, html: true, body: []byte(badGateway)}, true
	}
	if err := f.refusalError(s); err != nil {
		return err.answer(), true
	}
	return answer{}, false
}

// badGateway is the page of a proxy whose server cannot be reached.
const badGateway = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<h1>502 Bad Gateway</h1>\n</body>\n</html>\n"

// refusalError returns Stripe's error for a fault that refuses, or nil.
func (f *Fault) refusalError(s *Send) *apiError {
	switch f.Kind {
	case Unsaved500:
		return serverError()
	case InUse409:
		return keyInUse(s.Key)
	case LockTimeout:
		return lockTimeout(cmp.Or(f.Status, http.StatusTooManyRequests))
	case RateLimited429:
		e := refuse(http.StatusTooManyRequests, typeInvalid, "rate_limit", "Request rate limit exceeded.")
		e.retryAfter = time.Duration(f.RetryAfter)
		return e
	case Unauthorized401:
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: sk_test_***.")
	case Forbidden403:
		return refuse(http.StatusForbidden, typeInvalid, "more_permissions_required",
			"The provided key does not have the required permissions for this endpoint.")
	case Unavailable503:
		e := refuse(http.StatusServiceUnavailable, typeAPI, "", "Stripe is temporarily unavailable.")
		e.retryAfter = time.Duration(f.RetryAfter)
		return e
	case BadRequest400:
		if f.Intent {
			return nil // see executedRefusal
		}
		return f.badRequest()
	default:
		return nil
	}
}

// executedRefusal returns the error that ends a request after its execution has
// begun, or nil.
func (f *Fault) executedRefusal() *apiError {
	if f.Kind != Saved400 && (f.Kind != BadRequest400 || !f.Intent) {
		return nil
	}
	e := f.badRequest()
	e.began = true
	return e
}

func (f *Fault) badRequest() *apiError {
	return invalid("", f.Code, "%s", cmp.Or(f.Message, "This request was refused by a scripted fault."))
}
