package pgtest

import (
	"errors"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestChoose(t *testing.T) {
	t.Parallel()
	const url = "postgres://somewhere"

	for _, c := range []struct {
		name     string
		env      map[string]string
		binaries error
		want     kind
	}{
		{"a URL comes first", map[string]string{"TEST_DATABASE_URL": url}, nil, given},
		{"then the programs of this machine", nil, nil, local},
		{"then a container", nil, errors.New("none"), container},
		{
			"TEST_POSTGRES=container comes before everything",
			map[string]string{"TEST_POSTGRES": "container", "TEST_DATABASE_URL": url},
			nil, forcedContainer,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			find := func() (string, error) { return "", c.binaries }
			if got, err := choose(env(c.env), find); got != c.want || err != nil {
				t.Errorf("chose %q (%v), want %q", got, err, c.want)
			}
		})
	}
	t.Run("another TEST_POSTGRES is an error", func(t *testing.T) {
		t.Parallel()
		if got, err := choose(env(map[string]string{"TEST_POSTGRES": "Container"}), pgserver.FindBinaries); err == nil {
			t.Errorf("chose %q", got)
		}
	})
}

func TestMissing(t *testing.T) {
	t.Parallel()
	for ci, want := range map[string]string{"": "skipped", "false": "skipped", "true": "failed"} {
		t.Run("a test without Postgres is "+want+" with CI="+ci, func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			missing(r, env(map[string]string{"CI": ci}), errors.New("there is none"))
			if r.ended != want || !r.logged("there is none") {
				t.Errorf("it is %s with %q, want %s with the reason", r.ended, r.messages, want)
			}
		})
	}
}
