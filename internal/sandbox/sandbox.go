package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// sandbox is everything on one machine.
type sandbox struct {
	data      string // the folder that keeps everything
	command   run
	format    cli.LogFormat
	stdout    io.Writer
	log       *sharedLog
	stateFile *stateFile
}

func newSandbox(data string, command run, o cli.Output, format cli.LogFormat) *sandbox {
	return &sandbox{
		data: data, command: command, format: format, stdout: o.Stdout,
		log:       &sharedLog{w: o.Stderr, json: format == "json"},
		stateFile: &stateFile{path: filepath.Join(data, stateFileName)},
	}
}

// run starts everything. When ctx ends, it stops everything in the reverse
// order, so that no process outlives one that it needs. When force ends, it
// does not wait.
func (s *sandbox) run(ctx, force context.Context) (err error) {
	defer func() {
		if ctx.Err() != nil {
			s.log.printf("stopped; %s keeps everything", s.data)
			err = nil // it was asked to stop, maybe while it started
		}
	}()
	unlock, err := lockFolder(s.data)
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
	file, err := s.log.keepIn(filepath.Join(s.data, logFileName))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // the log is on stderr, too
	s.log.printf("starting Rocket Rides %s; %s keeps everything", cli.Version(), s.data)
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
	mail, err := startMailbox(ctx)
	if err != nil {
		return err
	}
	defer mail.stop()
	callbacksURL, stopReceiver, err := startReceiver(ctx, accounts)
	if err != nil {
		return err
	}
	defer stopReceiver()
	stopChildren, err := s.startChildren(ctx, force, s.programs(addresses, childEnd, url, mail.smtpURL))
	defer stopChildren()
	if err != nil {
		return err
	}
	defer s.stateFile.remove()
	if err := s.announce(addresses, state{DatabaseURL: url, InboxURL: mail.url, SMTPURL: mail.smtpURL, CallbacksURL: callbacksURL, Accounts: accounts}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// announce tells people, and then programs, that everything is ready.
func (s *sandbox) announce(a addresses, ready state) error {
	ready.APIURL, ready.AdminURL, ready.CompleterAdminURL, ready.StripeURL = a.api.url(), a.admin.url(), a.completer.url(), a.stripe.url()
	s.greet(ready)
	return s.stateFile.write(ready)
}
