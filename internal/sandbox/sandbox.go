package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sandbox is everything on one machine.
type sandbox struct {
	flags     flags
	stdout    io.Writer
	log       *sharedLog
	stateFile *stateFile
}

func newSandbox(f flags, stdout, stderr io.Writer) *sandbox {
	return &sandbox{
		flags: f, stdout: stdout,
		log:       &sharedLog{w: stderr, json: f.LogFormat == "json"},
		stateFile: &stateFile{path: filepath.Join(f.Data, "sandbox.json")},
	}
}

// run starts everything. When ctx ends, it stops everything in the reverse
// order, so that no process outlives one that it needs. When force ends, it
// does not wait.
func (s *sandbox) run(ctx, force context.Context) (err error) {
	defer func() {
		if ctx.Err() != nil {
			s.log.printf("stopped; %s keeps everything", s.flags.Data)
			err = nil // it was asked to stop, maybe while it started
		}
	}()
	unlock, err := lockFolder(s.flags.Data)
	if err != nil {
		return err
	}
	defer unlock()
	s.stateFile.remove() // a sandbox that was killed leaves it
	addresses, err := s.holdAddresses(ctx)
	if err != nil {
		return err
	}
	defer addresses.release()
	// The children read from the pipe, and only the sandbox can write to it. It
	// never does: the pipe ends when the sandbox ends, even by kill -9, and
	// then the children end as well. On Linux the kernel also kills them (see
	// process.Start), which ends a child that is stopped.
	childEnd, parentEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer childEnd.Close()  //nolint:errcheck // nothing was written
	defer parentEnd.Close() //nolint:errcheck // nothing was written

	url, stopDatabase, err := s.openDatabase(ctx, force)
	if err != nil {
		return err
	}
	defer stopDatabase()
	accounts, err := s.prepare(ctx, url)
	if err != nil {
		return err
	}
	addresses.release() // now the children listen on them
	var children []*child
	for _, p := range s.programs(addresses, childEnd, url) {
		c, err := s.startChild(ctx, p)
		if err != nil {
			return err
		}
		defer c.stop(force)
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.awaitReady(ctx); err != nil {
			return err
		}
	}
	defer s.stateFile.remove()
	if err := s.announce(addresses, url, accounts); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// announce tells people, and then programs, that everything is ready.
func (s *sandbox) announce(a addresses, databaseURL string, accounts []account) error {
	s.greet(a, databaseURL, accounts[0].APIKey)
	return s.stateFile.write(state{
		APIURL: a.api.url(), AdminURL: a.admin.url(), CompleterAdminURL: a.completer.url(), StripeURL: a.stripe.url(),
		DatabaseURL: databaseURL, Accounts: accounts,
	})
}
