package web

import (
	"net/http"
	"net/netip"
	"strconv"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// TrustProxies makes the router believe the X-Forwarded-For of requests that
// come from these addresses. Without it, whoever opened the connection is the
// client. Call it before the router serves.
func (rt *Router) TrustProxies(proxies []netip.Prefix) {
	if len(proxies) == 0 {
		return
	}
	addresses := make([]string, 0, len(proxies))
	for _, proxy := range proxies {
		addresses = append(addresses, proxy.String())
	}
	rt.handler = middleware.ClientIPFromXFF(addresses...)(rt.mux)
}

// Client names who sent the request by its address: of IPv6 by the /64, which
// is what one customer of a provider has at least. It is "" if that isn't
// known.
func (r *Request) Client() string {
	address := middleware.GetClientIPAddr(r.Context()).WithZone("")
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return middleware.GetClientIP(r.Context())
}

// Limit takes a token of an account and says in the RateLimit fields what is
// left to it (draft-ietf-httpapi-ratelimit-headers). It returns the refusal if
// there was none.
func Limit(header http.Header, buckets *limit.Buckets, account string) error {
	quota := buckets.Take(account)
	header.Set("RateLimit-Policy", `"account";q=`+strconv.Itoa(buckets.Burst())+`;w=`+strconv.Itoa(ceilSeconds(buckets.Window())))
	header.Set("RateLimit", `"account";r=`+strconv.Itoa(quota.Remaining)+`;t=`+strconv.Itoa(ceilSeconds(quota.Full)))
	if quota.Granted {
		return nil
	}
	refusal := NewProblemError(CodeRateLimited, nil)
	refusal.RetryAfter = RetryAfter(quota.Wait)
	return refusal
}
