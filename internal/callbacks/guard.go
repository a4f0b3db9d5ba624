package callbacks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrRefused means that a callback may not go where its URL leads, or is too
// large. Nothing was sent, and sending it later would be refused as well.
var ErrRefused = errors.New("not allowed")

// A Guard says where callbacks may go: to public addresses by https, and to
// those that the operator allows. It looks at what is dialled, after the name
// was resolved: a name may lead to another address each time. It is safe for
// concurrent use.
type Guard struct {
	allowed []netip.Prefix
	public  *ssrf.Guardian
}

// NewGuard returns a guard. The addresses in allowed are for development: any
// port, and plain http, are good enough there.
func NewGuard(allowed ...netip.Prefix) *Guard {
	return &Guard{allowed: allowed, public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(azurePlatform()))}
}

// azurePlatform is a public address that leads into the platform when it is
// called from a machine of Azure's.
func azurePlatform() netip.Prefix { return netip.MustParsePrefix("168.63.129.16/32") }

// allows reports whether the operator allows an address.
func (g *Guard) allows(address netip.Addr) bool {
	for _, prefix := range g.allowed {
		if prefix.Contains(address.Unmap()) {
			return true
		}
	}
	return false
}

// refuse returns an ErrRefused unless a callback may go to an address, over TLS
// if secure.
func (g *Guard) refuse(address netip.AddrPort, secure bool) error {
	if g.allows(address.Addr()) {
		return nil
	}
	if !secure {
		return fmt.Errorf("%w: %s, and without TLS", ErrRefused, address)
	}
	if !isOpenPort(address.Port()) {
		return fmt.Errorf("%w: port %d", ErrRefused, address.Port())
	}
	if err := g.public.SafeAddr(address.Addr()); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// isOpenPort reports whether callbacks may go to a port of a public address:
// that of https, and those that need no privilege. The others are of services
// that would do something else with a request.
func isOpenPort(port uint16) bool { return port == 443 || port >= 1024 }

// literal returns the address that a host is, if it isn't the name of one.
// "localhost" and what ends so are loopback, whatever resolves them (RFC 6761,
// section 6.3).
func literal(host string) (netip.Addr, bool) {
	host, err := toASCII(host)
	if err != nil {
		return netip.Addr{}, false
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	address, err := netip.ParseAddr(host)
	return address, err == nil
}

// A dialer connects to addresses that its guard doesn't refuse, and to no
// proxy.
type dialer struct {
	guard    *Guard
	secure   bool
	timeout  time.Duration
	resolver *net.Resolver // nil: the system's
}

// dial connects to host:port. If an address of the host is refused, and no
// other one takes the connection, the error is an ErrRefused: a name that leads
// to a private address is not to be tried again in the hope of a public one.
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var refused atomic.Pointer[error]
	plain := net.Dialer{
		Timeout:   d.timeout,
		Resolver:  d.resolver,
		KeepAlive: -1, // a connection lasts for seconds
		// This runs for each address of the host, before anything is sent to
		// it.
		Control: func(_, address string, _ syscall.RawConn) error {
			resolved, err := netip.ParseAddrPort(address)
			if err == nil {
				err = d.guard.refuse(resolved, d.secure)
			}
			if err != nil {
				refused.Store(&err)
			}
			return err
		},
	}
	conn, err := plain.DialContext(ctx, network, address)
	if why := refused.Load(); err != nil && why != nil {
		return nil, *why
	}
	return conn, err
}
