package sandbox

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestASandboxFromItsFirstStartToTheNext(t *testing.T) {
	t.Parallel()
	data := filepath.Join(folder(t), "made", "for it")
	first := start(t, data, anywhere)
	checkNotice(t, first)
	checkGreeting(t, first)
	other := spawn(t, data, anywhere)
	if code, said := other.wait(t), other.stderr.String(); code != 1 || !strings.Contains(said, "another sandbox runs in "+data) {
		t.Errorf("a second sandbox on the same data ended with exit code %d and %q", code, said)
	}
	paid := first.hail(t, 0, "kept")
	if paid.status != http.StatusCreated {
		t.Fatalf("a ride is answered with %d %s", paid.status, paid.body)
	}
	checkSeeds(t, first)
	processes := first.processes(t)
	checkInterrupt(t, first)
	for name, pid := range processes {
		if runs(t, pid) {
			t.Errorf("%s outlives it", name)
		}
	}
	if first.read(t) {
		t.Error("sandbox.json outlives it")
	}

	second := start(t, data, anywhere)
	if diff := cmp.Diff(first.state.Accounts, second.state.Accounts); diff != "" {
		t.Errorf("the accounts changed over a restart (-before +after):\n%s", diff)
	}
	again := second.hail(t, 0, "kept")
	if again.body != paid.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after a restart the ride is answered with %v, want a replay of %s", again, paid.body)
	}
	if charges := get(t, second.state.StripeURL+"/_fake/charges").body; strings.Count(charges, "ride_") != 3 {
		t.Errorf("after a restart Stripe has the charges %s, want the 3 of before", charges)
	}
}

// checkInterrupt presses Ctrl-C as a terminal does: the whole group hears of
// it. The API gives its rides back before what finishes them goes, and what
// both need goes last.
func checkInterrupt(t *testing.T, b *box) {
	t.Helper()
	if err := syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := b.wait(t); code != 0 {
		t.Errorf("Ctrl-C ends it with exit code %d, want 0", code)
	}
	rest := b.stderr.String()
	for _, want := range []string{
		"stopping api", "api ", "msg=stopped", "stopping completer", "completer ", "msg=draining", "stopping fakestripe", "stopping Postgres",
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Errorf("its end lacks %q in its place:\n%s", want, &b.stderr)
		}
	}
}

// checkNotice compares sandbox.json with what others were promised.
func checkNotice(t *testing.T, b *box) {
	t.Helper()
	stat, err := os.Stat(filepath.Join(b.data, "sandbox.json"))
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("sandbox.json has the mode %v (%v), want 0600", stat.Mode(), err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(b.said), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api_url", "admin_url", "completer_admin_url", "stripe_url"} {
		if url, ok := got[name].(string); !ok || !strings.HasPrefix(url, "http://127.0.0.1:") {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	var numbers map[string]int
	for _, name := range []string{"sandbox", "api", "completer", "postgres"} {
		encoded, err := json.Marshal(got["pids"])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &numbers); err != nil || !runs(t, numbers[name]) {
			t.Errorf("pids is %s (%v), with nobody as %s", encoded, err, name)
		}
	}
	conn, err := pgx.Connect(t.Context(), b.state.DatabaseURL)
	if err != nil {
		t.Fatalf("database_url leads nowhere: %v", err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it was only read
	var super, tcp bool
	if err := conn.QueryRow(t.Context(), `
		SELECT rolsuper, inet_server_port() IS NOT NULL
		FROM pg_roles
		WHERE rolname = current_user`).Scan(&super, &tcp); err != nil || !super || !tcp {
		t.Errorf("database_url: superuser %v, TCP %v, %v", super, tcp, err)
	}
	for _, url := range []string{b.state.AdminURL, b.state.CompleterAdminURL} {
		if status := get(t, url+"/readyz").status; status != http.StatusOK {
			t.Errorf("%s/readyz answers %d", url, status)
		}
	}
}

// checkGreeting pastes the command into a shell, as a newcomer would.
func checkGreeting(t *testing.T, b *box) {
	t.Helper()
	for _, want := range []string{"HTTP/1.1 201 Created", "Idempotent-Replayed: true"} {
		_, command, _ := strings.Cut(b.stdout.String(), "curl ")
		command, _, _ = strings.Cut("curl "+command, "\n")
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s\nprints %s (%v), want %s", command, out, err, want)
		}
	}
}

// checkSeeds hails as each account.
func checkSeeds(t *testing.T, b *box) {
	t.Helper()
	for i, want := range []struct {
		name, email string
		status      int
	}{
		{"visa", "visa@example.com", http.StatusCreated},
		{"declined", "declined@example.com", http.StatusPaymentRequired},
		{"second", "second@example.com", http.StatusCreated},
	} {
		account := b.state.Accounts[i]
		if account.Name != want.name || account.Email != want.email || !strings.HasPrefix(account.CallbackSecret, "whsec_") {
			t.Errorf("account %d is %+v, want %s", i, account, want.name)
		}
		// Three accounts, one key: three rides, of which two are paid.
		if got := b.hail(t, i, "kept"); got.status != want.status {
			t.Errorf("a ride of %s is answered with %d %s, want %d", want.name, got.status, got.body, want.status)
		}
	}
}

func TestTwoSandboxesRunSideBySide(t *testing.T) {
	t.Parallel()
	left, right := spawn(t, folder(t), anywhere), spawn(t, folder(t), anywhere, "SHUTDOWN_TIMEOUT=1h")
	left.awaitReady(t)
	right.awaitReady(t)
	for _, b := range []*box{left, right} {
		if got := b.hail(t, 0, "same"); got.status != http.StatusCreated || got.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("a ride is answered with %d %s", got.status, got.body)
		}
	}
	right.state.APIURL, left.state.APIURL = left.state.APIURL, right.state.APIURL
	if got := left.hail(t, 0, "other"); got.status != http.StatusUnauthorized {
		t.Errorf("the API key of one is answered by the other with %d", got.status)
	}
	left.state.APIURL, right.state.APIURL = right.state.APIURL, left.state.APIURL
	t.Run("one can use a database of the other", func(t *testing.T) {
		t.Parallel()
		checkForeignDatabase(t, left)
	})
	t.Run("a second Ctrl-C does not wait for a ride", func(t *testing.T) {
		t.Parallel()
		checkSecondInterrupt(t, right)
	})
}

func checkForeignDatabase(t *testing.T, host *box) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), host.state.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it has nothing to lose
	if _, err := conn.Exec(t.Context(), `CREATE DATABASE guest`); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(host.state.DatabaseURL, "/postgres?", "/guest?", 1)
	guest := start(t, folder(t), anywhere, "DATABASE_URL="+url)
	if guest.state.DatabaseURL != url || strings.Contains(guest.said, `"postgres":`) {
		t.Errorf("sandbox.json is %s, want the given database and no process of it", guest.said)
	}
	if shown := guest.stdout.String() + guest.stderr.String(); strings.Contains(shown, url) {
		t.Errorf("it shows the password of the given database:\n%s", shown)
	}
	if got := guest.hail(t, 0, "same"); got.status != http.StatusCreated {
		t.Errorf("a ride is answered with %d %s", got.status, got.body)
	}
	if _, err := os.Stat(filepath.Join(guest.data, "postgres")); !os.IsNotExist(err) {
		t.Errorf("it made a Postgres of its own: %v", err)
	}
	if code := guest.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends it with exit code %d", code)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("it stopped the database that is not its own: %v", err)
	}
}

// checkSecondInterrupt stops a sandbox whose API would wait an hour for a ride
// that Stripe never answers.
func checkSecondInterrupt(t *testing.T, b *box) {
	t.Helper()
	processes := b.processes(t)
	ask(t, http.MethodPost, b.state.StripeURL+"/_fake/faults", `{"kind":"latency","latency":"1h"}`, nil)
	answered := make(chan answer, 1)
	go func() { answered <- b.hail(t, 0, "held") }()
	eventually(t, "Stripe has the ride", func() bool {
		return strings.Contains(get(t, b.state.StripeURL+"/_fake/ledger").body, `"in_flight":true`)
	})
	b.signal(syscall.SIGINT)
	eventually(t, "the API is asked to stop", func() bool { return strings.Contains(b.stderr.String(), "stopping api") })
	if code := b.stop(t, syscall.SIGINT); code != 1 {
		t.Errorf("it ended with exit code %d, want 1", code)
	}
	<-answered
	checkNothingRuns(t, processes)
	if _, err := os.Stat(filepath.Join(b.data, "sandbox.json")); !os.IsNotExist(err) {
		t.Errorf("sandbox.json outlives it: %v", err)
	}
}
