package sandbox

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stripeKey is no secret: the fake takes every test key.
const stripeKey = "sk_test_sandbox"

// sandbox is everything on one machine.
type sandbox struct {
	flags  flags
	stdout io.Writer
	said   *transcript
	notice *notice
}

func newSandbox(f flags, stdout, stderr io.Writer) *sandbox {
	return &sandbox{
		flags: f, stdout: stdout,
		said:   &transcript{w: stderr, json: f.LogFormat == "json"},
		notice: &notice{path: filepath.Join(f.Data, "sandbox.json")},
	}
}

// run starts everything, and when ctx ends stops it in the reverse order: no
// process outlives one that it needs. When force ends, it doesn't wait.
func (s *sandbox) run(ctx, force context.Context) (err error) {
	defer func() {
		if ctx.Err() != nil {
			s.said.sayf("stopped; %s keeps everything", s.flags.Data)
			err = nil // it was asked to stop, maybe amid its start
		}
	}()
	unlock, err := lockFolder(s.flags.Data)
	if err != nil {
		return err
	}
	defer unlock()
	// One that was killed left it behind.
	s.notice.withdraw()
	doors, err := s.openDoors(ctx)
	if err != nil {
		return err
	}
	defer doors.close()
	tether, err := newTether()
	if err != nil {
		return err
	}
	defer tether.cut()

	url, stopDatabase, err := s.openDatabase(ctx, force)
	if err != nil {
		return err
	}
	defer stopDatabase()
	accounts, err := s.prepare(ctx, url)
	if err != nil {
		return err
	}
	var children []*child
	for _, p := range s.programs(doors, url) {
		s.said.sayf("starting %s on %s", p.name, p.doors[0].address)
		c := launch(context.WithoutCancel(ctx), p, tether, s.said, s.started)
		defer c.stop(force)
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.awaitReady(ctx); err != nil {
			return err
		}
	}
	defer s.notice.withdraw()
	if err := s.announce(doors, url, accounts); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// programs are the children, in the order of their start.
func (s *sandbox) programs(d doors, databaseURL string) []program {
	env := append(os.Environ(),
		// Of two values the last counts: these win over the environment's.
		"DATABASE_URL="+databaseURL, "STRIPE_API_KEY="+stripeKey, "STRIPE_URL="+d.stripe.url(),
		"SHUTDOWN_TIMEOUT="+s.flags.ShutdownTimeout.String())
	// Longer than the program's own bound, so that only one that is stuck is
	// killed.
	grace := s.flags.ShutdownTimeout + 2*time.Second
	return []program{
		{
			name: "fakestripe", doors: []*door{d.stripe}, ready: d.stripe.url() + "/_fake/healthz", env: env, grace: grace,
			args: []string{"--log-format", s.flags.LogFormat, "--listen", d.stripe.address, "--data", filepath.Join(s.flags.Data, "stripe")},
		},
		{
			name: "completer", doors: []*door{d.completer}, ready: d.completer.url() + "/readyz", env: env, grace: grace,
			args: []string{"--log-format", s.flags.LogFormat, "run", "--admin-listen", d.completer.address},
		},
		{
			name: "api", doors: []*door{d.api, d.admin}, ready: d.admin.url() + "/readyz", env: env, grace: grace,
			args: []string{"--log-format", s.flags.LogFormat, "serve", "--listen", d.api.address, "--admin-listen", d.admin.address},
		},
	}
}

// started notes a process that was started under a name.
func (s *sandbox) started(name string, pid int) {
	if err := s.notice.setPID(name, pid); err != nil {
		s.said.sayf("%v", err)
	}
}

// announce tells people, and then programs, that all is ready.
func (s *sandbox) announce(d doors, databaseURL string, accounts []account) error {
	s.greet(d, databaseURL, accounts[0].APIKey)
	return s.notice.publish(state{
		APIURL: d.api.url(), AdminURL: d.admin.url(), CompleterAdminURL: d.completer.url(), StripeURL: d.stripe.url(),
		DatabaseURL: databaseURL, Accounts: accounts,
	})
}

// forgetPostgres takes Postgres's variables (PGSERVICE, PGOPTIONS and their
// like) out of the environment: they would have our own server be asked for
// what another one has.
func forgetPostgres() error {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	return nil
}
