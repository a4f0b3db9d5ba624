package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// fakestripeFlags are the command line of fakestripe.
type fakestripeFlags struct {
	Listen      string        `help:"Address to listen on." default:"127.0.0.1:12111" env:"FAKESTRIPE_LISTEN"`
	Data        string        `help:"Directory that keeps keys, objects and ledger; without it they live in memory." env:"FAKESTRIPE_DATA" placeholder:"DIR"`
	SettleAfter time.Duration `help:"When a payment with pm_fake_processing succeeds, by the fake's clock; 0s leaves it to POST /_fake/settle." default:"10s" env:"FAKESTRIPE_SETTLE_AFTER"`
	LogFormat   string        `help:"Form of the log on stderr: ${enum}." enum:"text,json" default:"text" env:"LOG_FORMAT"`

	Serve  struct{} `cmd:"" default:"1" help:"Serve the fake Stripe; this is what happens without a command."`
	Health struct{} `cmd:"" help:"Exit 0 when the fake Stripe on --listen is alive, for container checks."`
}

// Validate refuses an address without a port, which is wrong usage rather than a
// failure to listen.
func (f *fakestripeFlags) Validate() error {
	if _, _, err := net.SplitHostPort(f.Listen); err != nil {
		return fmt.Errorf("--listen needs HOST:PORT: %w", err)
	}
	return nil
}

// FakeStripe is the command fakestripe: it serves the fake Stripe until the
// context ends or SIGTERM or SIGINT comes, or checks one that runs. args are the
// arguments without the program's name. It returns the exit code: 0 done, 1
// failed, 2 wrong usage. What went wrong stands on stderr.
func FakeStripe(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var flags fakestripeFlags
	exited := -1
	parser, err := kong.New(&flags, kong.Name("fakestripe"), kong.Writers(stdout, stderr),
		kong.Description("A stateful fake of Stripe's API. GET /_fake documents how to script it."),
		kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintln(stderr, "fakestripe:", err)
		return 1
	}
	parsed, err := parser.Parse(args)
	switch {
	case exited >= 0:
		return exited
	case err != nil:
		fmt.Fprintln(stderr, "fakestripe:", err)
		fmt.Fprintln(stderr, "Run fakestripe --help for its usage.")
		return 2
	case parsed.Command() == "health":
		err = fakestripeHealth(ctx, flags.Listen)
	default:
		err = fakestripeServe(ctx, &flags, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "fakestripe:", err)
		return 1
	}
	return 0
}

// fakestripeGrace is how long a stop waits for requests that run.
const fakestripeGrace = 5 * time.Second

func fakestripeServe(ctx context.Context, flags *fakestripeFlags, stdout, stderr io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", flags.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("another program listens on %s; stop it, or choose another address with --listen", flags.Listen)
	}
	if err != nil {
		return fmt.Errorf("listening on %s: %w", flags.Listen, err)
	}
	defer listener.Close() //nolint:errcheck // the HTTP server has closed it, unless it never ran
	log := fakestripeLog(flags.LogFormat, stderr)
	fake, err := fakestripe.Open(fakestripe.Options{Dir: flags.Data, Logger: log, SettleAfter: flags.SettleAfter})
	if err != nil {
		return fmt.Errorf("opening the fake Stripe: %w", err)
	}
	defer func() { err = errors.Join(err, fake.Close()) }()

	server := &http.Server{
		Handler:           fake,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		// A scripted answer may be slow on purpose; this only ends a stuck one.
		WriteTimeout:   15 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "fakestripe listens on http://%s; see http://%[1]s/_fake\n", listener.Addr())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	return fakestripeStop(context.WithoutCancel(ctx), server, fake)
}

// fakestripeStop lets what runs come to its end. What a script still holds after
// the grace is cut off, as a crash would.
func fakestripeStop(ctx context.Context, server *http.Server, fake *fakestripe.Server) error {
	ctx, cancel := context.WithTimeout(ctx, fakestripeGrace)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	return errors.Join(fake.Close(), server.Close())
}

func fakestripeLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// fakestripeHealth asks the fake Stripe on an address whether it is alive. One
// that listens on all addresses is asked on the loopback one.
func fakestripeHealth(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("reading the address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/_fake/healthz", http.NoBody)
	if err != nil {
		return fmt.Errorf("asking for its health: %w", err)
	}
	// A transport of its own asks no proxy.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking for its health: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}
