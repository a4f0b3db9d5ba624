package commands

import (
	"log/slog"
	"net/netip"

	"github.com/rocketrides/rocketrides/internal/callbacks"
)

// callbackFlags are the flags of every command that accepts or sends callbacks.
type callbackFlags struct {
	CallbackAllow []netip.Prefix `help:"Networks that are not public, and that callbacks may go to all the same, for development. There any port and plain http are good enough, for addresses and for names that are never public: localhost, one label, .test, .local, .internal, .home.arpa." env:"CALLBACK_ALLOW" placeholder:"127.0.0.0/8"`
}

// guard returns the guard that the flags ask for.
func (f callbackFlags) guard() *callbacks.Guard { return callbacks.NewGuard(f.CallbackAllow...) }

// unusualCallbacks returns what the first log line says of the flags.
func (f callbackFlags) unusualCallbacks() []slog.Attr {
	if len(f.CallbackAllow) == 0 {
		return nil
	}
	return []slog.Attr{slog.Any("callback_allow", f.CallbackAllow)}
}
