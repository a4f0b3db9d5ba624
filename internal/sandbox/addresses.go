package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/pause"
)

// addresses are those that the children listen on.
type addresses struct {
	api, admin, completer, stripe *heldAddress
}

// A heldAddress is an address that a child will listen on. The sandbox listens
// on it until the child starts, so that a port that is taken is an error before
// anything slow happens, and no other program takes it meanwhile.
type heldAddress struct {
	hostPort string
	listener net.Listener
}

func (s *sandbox) holdAddresses(ctx context.Context) (addresses, error) {
	var a addresses
	for _, wanted := range []struct {
		address        **heldAddress
		flag, hostPort string
	}{
		{&a.api, "listen", s.command.Listen},
		{&a.admin, "admin", s.command.Admin},
		{&a.stripe, "stripe", s.command.Stripe},
		{&a.completer, "", "127.0.0.1:0"},
	} {
		var err error
		if *wanted.address, err = holdAddress(ctx, wanted.flag, wanted.hostPort); err != nil {
			a.release()
			return addresses{}, err
		}
	}
	return a, nil
}

// holdAddress listens on an address. If it is taken, it tries again for a
// second: the children of a sandbox that was killed a moment ago may be about
// to end.
func holdAddress(ctx context.Context, flag, hostPort string) (*heldAddress, error) {
	for deadline := time.Now().Add(time.Second); ; {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", hostPort)
		taken := errors.Is(err, syscall.EADDRINUSE)
		switch {
		case err == nil:
			return &heldAddress{hostPort: listener.Addr().String(), listener: listener}, nil
		case !taken:
			return nil, fmt.Errorf("listening on %s (--%s): %w", hostPort, flag, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("another program listens on %s; stop it, or choose another address with --%s", hostPort, flag)
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// release stops listening, so that the children can. More calls do nothing.
func (a addresses) release() {
	for _, address := range []*heldAddress{a.api, a.admin, a.stripe, a.completer} {
		if address != nil {
			_ = address.listener.Close()
		}
	}
}

// url is that of the address for a client on this machine. A client can't
// connect to 0.0.0.0 or [::], which stand for all addresses of a machine.
func (a *heldAddress) url() string {
	host, port, err := net.SplitHostPort(a.hostPort)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + a.hostPort
}
