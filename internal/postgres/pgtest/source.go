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

// source is the server that the tests of a process share. It starts with the
// first test that needs it.
type source struct {
	once  sync.Once
	url   string
	close func() error
	err   error
}

var (
	shared source
	model  modelServer
)

// errNoSource explains to whoever runs the tests what is missing.
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

// open finds or starts a server.
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

// A kind of source. A container is the last resort, which may well be missing,
// unless somebody asked for it.
type kind string

const (
	given           kind = "TEST_DATABASE_URL"
	local           kind = "local"
	forcedContainer kind = "TEST_POSTGRES=container"
	container       kind = "container"
)

// choose keeps the order that the package promises.
func choose(getenv func(string) string, findBinaries func() (string, error)) (kind, error) {
	switch wish := getenv("TEST_POSTGRES"); wish {
	case "":
	case "container":
		return forcedContainer, nil
	default:
		return "", fmt.Errorf("TEST_POSTGRES=%s is unknown: it is container, or not set", wish)
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

// needBinaries is for tests that can't do with a server that isn't theirs.
func needBinaries(tb testing.TB) {
	tb.Helper()
	if _, err := pgserver.FindBinaries(); err != nil {
		missing(tb, os.Getenv, fmt.Errorf("this test runs a server of its own: %w", err))
	}
}

// missing ends the test: on a developer's machine it is skipped.
func missing(tb testing.TB, getenv func(string) string, reason error) {
	tb.Helper()
	if getenv("CI") == "true" {
		tb.Fatalf("%v", reason)
	} else {
		tb.Skipf("%v", reason)
	}
}
