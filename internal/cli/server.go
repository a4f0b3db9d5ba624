package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

// CheckAddress returns an error for an address without a port. flag is the name
// of the flag that gave the address. A command calls it in Validate, so that
// such an address is wrong usage and not a failure to listen.
func CheckAddress(flag, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("--%s needs HOST:PORT: %w", flag, err)
	}
	return nil
}

// Listen listens on a TCP address. flag is the name of the flag that gave the
// address: the error for an address in use, which wraps syscall.EADDRINUSE,
// suggests to change it.
func Listen(ctx context.Context, flag, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s (%w); stop it, or choose another address with --%s", address, syscall.EADDRINUSE, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s (--%s): %w", address, flag, err)
	}
	return listener, nil
}

// Dialable returns the address at which a client on this machine reaches a
// program that listens on address. A client can't connect to no host, 0.0.0.0 or
// [::], which stand for all addresses of a machine.
func Dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// NewServer returns an HTTP server that limits the time to read a request and
// the size of its headers. It sets no WriteTimeout: how long a request may take
// is up to its handler, because a payment may take longer than reading a body.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // bytes; beyond it net/http itself answers, in plain text
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),

		// Otherwise net/http itself answers OPTIONS *, and nothing logs it.
		DisableGeneralOptionsHandler: true,
	}
}

// Health requests path from a program that serves on address, HOST:PORT, and
// returns nil when it answers 200 within 3 seconds. It is for container checks
// in an image without a shell.
func Health(ctx context.Context, address, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Dialable(address)+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	// Not http.DefaultTransport, which would use a proxy from the environment.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("checking health: the answer is %s", response.Status)
	}
	return nil
}
