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

// doors are the addresses of a sandbox.
type doors struct {
	api, admin, completer, stripe *door
}

// A door is an address that a child serves. It is held from the sandbox's start
// to the child's, so that whether it is free shows before anything slow
// happens, and stays true.
type door struct {
	address string
	held    net.Listener
}

func (s *sandbox) openDoors(ctx context.Context) (doors, error) {
	var d doors
	for _, wanted := range []struct {
		door          **door
		flag, address string
	}{
		{&d.api, "listen", s.flags.Listen},
		{&d.admin, "admin", s.flags.Admin},
		{&d.stripe, "stripe", s.flags.Stripe},
		{&d.completer, "", "127.0.0.1:0"},
	} {
		var err error
		if *wanted.door, err = openDoor(ctx, wanted.flag, wanted.address); err != nil {
			d.close()
			return doors{}, err
		}
	}
	return d, nil
}

// openDoor takes an address. One that is taken is asked for once more, for a
// second: the children of a sandbox that was killed a moment ago may be about
// to end.
func openDoor(ctx context.Context, flag, address string) (*door, error) {
	for deadline := time.Now().Add(time.Second); ; {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		taken := errors.Is(err, syscall.EADDRINUSE)
		switch {
		case err == nil:
			return &door{address: listener.Addr().String(), held: listener}, nil
		case !taken:
			return nil, fmt.Errorf("listening on %s (--%s): %w", address, flag, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("another program listens on %s; stop it, or choose another address with --%s", address, flag)
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// release leaves the address to the child.
func (d *door) release() { _ = d.held.Close() }

// close lets go of everything that was not released.
func (d doors) close() {
	for _, door := range []*door{d.api, d.admin, d.stripe, d.completer} {
		if door != nil {
			door.release()
		}
	}
}

// url is where a client on this machine finds the door: an address that stands
// for all of a machine's is no destination.
func (d *door) url() string {
	host, port, err := net.SplitHostPort(d.address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + d.address
}
