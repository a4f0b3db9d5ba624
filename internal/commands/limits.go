package commands

import (
	"errors"
	"net/netip"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// limitFlags bound how many requests a client may send.
type limitFlags struct {
	RateLimit      float64        `help:"How many requests a second one process takes of each account; 0 for no limit." default:"100" env:"RATE_LIMIT"`
	RateBurst      int            `help:"How many requests it takes of each account at once." default:"200" env:"RATE_BURST"`
	TrustedProxies []netip.Prefix `help:"Networks of the proxies whose X-Forwarded-For says who the client is, separated by commas; without one, it is who opened the connection." env:"TRUSTED_PROXIES" placeholder:"10.0.0.0/8"`
}

// checkLimits refuses settings that make no sense.
func (f limitFlags) checkLimits() error {
	if f.RateLimit == 0 || f.RateLimit >= 0.001 && f.RateLimit <= 1e6 && f.RateBurst >= 1 && f.RateBurst <= 1e6 {
		return nil
	}
	return errors.New("--rate-limit must be 0, or from 0.001 to 1000000, and --rate-burst from 1 to 1000000")
}

// rate returns the limit of each account.
func (f limitFlags) rate() limit.Rate {
	if f.RateLimit == 0 {
		return limit.Rate{}
	}
	return limit.Rate{PerSecond: f.RateLimit, Burst: f.RateBurst}
}
