package sandbox

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
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
		listener, err := cli.Listen(ctx, flag, hostPort)
		if err == nil {
			return &heldAddress{hostPort: listener.Addr().String(), listener: listener}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return nil, err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// release stops listening on all addresses. More calls do nothing.
func (a addresses) release() {
	for _, address := range []*heldAddress{a.api, a.admin, a.stripe, a.completer} {
		if address != nil {
			address.release()
		}
	}
}

// release stops listening, so that a child can. More calls do nothing.
func (a *heldAddress) release() { _ = a.listener.Close() }

// url is that of the address for a client on this machine.
func (a *heldAddress) url() string { return "http://" + cli.Dialable(a.hostPort) }
