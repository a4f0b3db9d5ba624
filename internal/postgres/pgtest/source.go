package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// source is the server that the tests of a process share. The first test that
// needs it starts it.
type source struct {
	once  sync.Once
	url   string
	close func() error
	err   error
}

var (
	shared  source
	model   modelServer
	onCitus sharedDatabase
)

// errNoSource says what the machine needs to run the tests.
var errNoSource = errors.New("no Postgres for the tests: set TEST_DATABASE_URL, install a Postgres server, or start Docker")

func (s *source) start(ctx context.Context) (string, error) {
	s.once.Do(func() { s.url, s.close, s.err = open(ctx) })
	return s.url, s.err
}

func (s *source) stop() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// open finds or starts a server, and returns its URL and what stops it, if it
// is to be stopped.
func open(ctx context.Context) (url string, stop func() error, err error) {
	kind, err := choose(os.Getenv, pgserver.FindBinaries)
	if err != nil {
		return "", nil, err
	}
	switch kind {
	case given:
		return os.Getenv("TEST_DATABASE_URL"), nil, nil
	case local:
		return openLocal(ctx)
	case forcedContainer:
		return openContainer(ctx)
	default:
		url, stop, err = openContainer(ctx)
		if err != nil {
			err = fmt.Errorf("%w (%w)", errNoSource, err)
		}
		return url, stop, err
	}
}

// A kind is a kind of source. It is an error if a container can't be started;
// but if TEST_POSTGRES did not ask for it, the tests are only skipped.
type kind string

const (
	given           kind = "TEST_DATABASE_URL"
	local           kind = "local"
	forcedContainer kind = "TEST_POSTGRES=container"
	container       kind = "container"
)

// choose returns the first kind of source that there is, in the order that the
// package documents.
func choose(getenv func(string) string, findBinaries func() (string, error)) (kind, error) {
	switch wanted := getenv("TEST_POSTGRES"); wanted {
	case "":
	case "container":
		return forcedContainer, nil
	default:
		return "", fmt.Errorf("TEST_POSTGRES=%s is unknown; set it to container, or unset it", wanted)
	}
	if getenv("TEST_DATABASE_URL") != "" {
		return given, nil
	}
	if _, err := findBinaries(); err == nil {
		return local, nil
	}
	return container, nil
}

// adminURL returns the URL of the shared server.
func adminURL(ctx context.Context, tb testing.TB) string {
	tb.Helper()
	url, err := shared.start(ctx)
	if errors.Is(err, errNoSource) {
		missing(tb, os.Getenv, err)
	}
	if err != nil {
		tb.Fatalf("starting the test database: %v", err)
	}
	return url
}

// needBinaries ends a test that needs a server of its own if this machine has
// no Postgres programs.
func needBinaries(tb testing.TB) {
	tb.Helper()
	if _, err := pgserver.FindBinaries(); err != nil {
		missing(tb, os.Getenv, fmt.Errorf("this test runs a server of its own: %w", err))
	}
}

// missing skips the test, or fails it with CI=true.
func missing(tb testing.TB, getenv func(string) string, reason error) {
	tb.Helper()
	if getenv("CI") == "true" {
		tb.Fatalf("%v", reason)
	} else {
		tb.Skipf("%v", reason)
	}
}
