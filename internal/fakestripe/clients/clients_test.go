//go:build fakeclients

package clients

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// A language has a client of Stripe's.
type language struct {
	driver  string
	command []string
	// has is the command that shows whether the client is there, and install
	// the one that installs it into the folder DIR.
	has, install []string
	// env finds what was installed there.
	env string
	// prefix is that of its classes of errors, and api its word for an error of
	// the server.
	prefix, api string
}

var languages = map[string]language{
	"node": {
		driver: "driver.mjs", command: []string{"node"}, install: []string{"npm", "ci", "--no-audit", "--no-fund"},
		prefix: "Stripe", api: "StripeAPIError",
	},
	"python": {
		driver: "driver.py", command: []string{"python3"}, has: []string{"python3", "-c", "import stripe"},
		install: []string{"python3", "-m", "pip", "install", "--quiet", "--target", "DIR", "stripe==15.3.1"}, env: "PYTHONPATH=DIR", api: "APIError",
	},
	"ruby": {
		driver: "driver.rb", command: []string{"ruby"}, has: []string{"ruby", "-e", "require 'stripe'"},
		install: []string{"gem", "install", "--silent", "--no-document", "--install-dir", "DIR", "stripe:19.5.0"}, env: "GEM_PATH=DIR", api: "APIError",
	},
}

// A refusal is how a client shows an error.
type refusal struct {
	Class       string `json:"class"`
	Code        string `json:"code"`
	DeclineCode string `json:"decline_code"`
	Param       string `json:"param"`
}

// outcome is what a driver prints.
type outcome struct {
	Version                                                     string
	Charged, Refunded                                           string
	Declined, Reused, Unauthenticated, Invalid, Limited, Broken refusal
	Listed                                                      int
}

// TestStripesClientsDriveTheFake: each client retries with a key of its own
// making, maps errors to its classes, and reads all pages of a list. A client
// that can't be installed is skipped.
func TestStripesClientsDriveTheFake(t *testing.T) {
	t.Parallel()
	for name, l := range languages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, err := fakestripe.Open(fakestripe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(fake)
			t.Cleanup(func() { _ = fake.Close(); server.Close() })
			fake.Script(
				fakestripe.Fault{Kind: fakestripe.DropAfter, Match: fakestripe.Match{RideID: "retried"}},
				fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{RideID: "retried"}},
				fakestripe.Fault{Kind: fakestripe.RateLimited429, Match: fakestripe.Match{Key: "limited"}, Times: -1},
				fakestripe.Fault{Kind: fakestripe.Unsaved500, Match: fakestripe.Match{Key: "broken"}, Times: -1},
			)
			got := l.drive(t, server.URL)
			t.Logf("stripe-%s %s", name, got.Version)
			l.check(t, got, fake)
		})
	}
}

// drive installs the client, unless it is there, and runs its driver.
func (l language) drive(t *testing.T, url string) (got outcome) {
	t.Helper()
	if _, err := exec.LookPath(l.command[0]); err != nil {
		t.Skipf("there is no %s", l.command[0])
	}
	dir := t.TempDir()
	for _, file := range []string{l.driver, "package.json", "package-lock.json"} {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(args []string) ([]byte, error) {
		args = strings.Split(strings.ReplaceAll(strings.Join(args, "\n"), "DIR", dir), "\n")
		command := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // it is one of the table
		command.Dir, command.Env = dir, append(os.Environ(), strings.ReplaceAll(l.env, "DIR", dir))
		return command.CombinedOutput()
	}
	if l.has == nil || len(must(run(l.has))) > 0 {
		if said, err := run(l.install); err != nil {
			t.Skipf("stripe's client can't be installed here: %v: %s", err, said)
		}
	}
	said, err := run(append(l.command, l.driver, url))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n") // warnings may come before the result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return got
}

// must returns what a command said that may fail.
func must(said []byte, err error) []byte {
	if err != nil {
		return append(said, err.Error()...)
	}
	return nil
}

// check compares what the client saw with what the fake did.
func (l language) check(t *testing.T, got outcome, fake *fakestripe.Server) {
	t.Helper()
	for what, pair := range map[string][2]refusal{
		"a declined card":   {got.Declined, {l.prefix + "CardError", "card_declined", "generic_decline", ""}},
		"a reused key":      {got.Reused, {l.prefix + "IdempotencyError", "", "", ""}},
		"a wrong API key":   {got.Unauthenticated, {l.prefix + "AuthenticationError", "", "", ""}},
		"a wrong amount":    {got.Invalid, {l.prefix + "InvalidRequestError", "parameter_invalid_integer", "", "amount"}},
		"a limited request": {got.Limited, {l.prefix + "RateLimitError", "rate_limit", "", ""}},
		"a 500":             {got.Broken, {l.api, "", "", ""}},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %+v, want %+v", what, pair[0], pair[1])
		}
	}
	if got.Charged != "succeeded" || got.Refunded != "succeeded" || got.Listed != len(fake.PaymentIntents()) || got.Listed < 3 {
		t.Errorf("got %+v; there are %d payment intents", got, len(fake.PaymentIntents()))
	}
	keys := map[string]int{}
	for _, send := range fake.Ledger() {
		if send.Params["metadata[ride_id]"] == "retried" {
			keys[send.Key]++
		}
	}
	if fake.Charges()["retried"] != 1 || len(keys) != 1 || keys[""] > 0 {
		t.Errorf("a retried request had the keys %v, and made %d charges", keys, fake.Charges()["retried"])
	}
	for key, n := range keys {
		if n != 3 {
			t.Errorf("it was sent %d times under %s, want 3", n, key)
		}
	}
}
