package fakestripe

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
)

// testKey matches Stripe's secret keys for test mode.
var testKey = regexp.MustCompile(`^sk_test_[A-Za-z0-9_]+$`)

// The ids of the two Stripe accounts. The other one is empty and stays empty.
const (
	ownAccount   = "acct_fake"
	otherAccount = "acct_other"
)

// accountOf returns the id of the account that an API key belongs to.
func accountOf(key string) string {
	if strings.HasPrefix(key, "sk_test_other") {
		return otherAccount
	}
	return ownAccount
}

// readAccount shows the account.
func readAccount(t *tx) (any, error) {
	return account{
		ID: t.account, Object: "account", ChargesEnabled: true, Country: "US", DefaultCurrency: "usd",
		DetailsSubmitted: true, PayoutsEnabled: true, Type: "standard",
	}, nil
}

// authenticate checks the API key. A test key opens one of the two accounts. A
// live key is refused, so that nobody uses one against the fake by mistake.
func authenticate(h http.Header) *apiError {
	key := apiKey(h.Get("Authorization"))
	switch {
	case key == "":
		return refuse(http.StatusUnauthorized, typeInvalid, "",
			"You did not provide an API key. You need to provide your API key in the Authorization header, "+
				"using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). "+
				"See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.")
	case strings.HasPrefix(key, "sk_live_"):
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: sk_live_***. The fake takes only test keys.")
	case !testKey.MatchString(key):
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: ***. A test key begins with sk_test_.")
	}
	return nil
}

// apiKey returns the API key in an Authorization header, or "": a bearer token,
// or the user name of basic authentication without a password.
func apiKey(header string) string {
	scheme, value, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return value
	case "basic":
		decoded, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(decoded), ":")
	default:
		return ""
	}
}
