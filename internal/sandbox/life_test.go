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

	"github.com/rocketrides/rocketrides/internal/inbox"
)

func TestSandboxFromItsFirstStartToTheSecond(t *testing.T) {
	t.Parallel()
	data := filepath.Join(folder(t), "made", "for it")
	first := start(t, data, freePorts)
	checkStateFile(t, first)
	checkGreeting(t, first)
	printed := checkEnv(t, first)
	other := spawn(t, data, freePorts)
	if code, log := other.wait(t), other.stderr.String(); code != 1 || !strings.Contains(log, "another sandbox runs in "+data) {
		t.Errorf("a second sandbox on the same data ended with exit code %d and %q", code, log)
	}
	paid := first.hail(t, 0, "kept")
	if paid.status != http.StatusCreated {
		t.Fatalf("a ride is answered with %d %s", paid.status, paid.body)
	}
	checkSeeds(t, first)
	checkEvents(t, first)
	checkInbox(t, first)
	processes := first.processes(t)
	checkInterrupt(t, first)
	for name, pid := range processes {
		if runs(t, pid) {
			t.Errorf("%s runs after its end", name)
		}
	}
	if first.read(t) {
		t.Error("sandbox.json is there after its end")
	}

	// The shell has read the variables of the first start.
	second := start(t, data, freePorts, printed...)
	second.processes(t)
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

// checkInterrupt presses Ctrl-C as a terminal does: the whole process group
// gets the signal. The API releases its rides before the completer, which
// finishes them, is stopped; Stripe and Postgres, which both need, are stopped
// last.
func checkInterrupt(t *testing.T, p *sandboxProcess) {
	t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("Ctrl-C ends it with exit code %d, want 0", code)
	}
	rest := p.stderr.String()
	for _, want := range []string{
		"stopping api", "api ", "msg=stopped", "stopping completer", "completer ", "msg=draining", "stopping fakestripe", "stopping Postgres",
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Errorf("its log lacks %q, or has it too early:\n%s", want, &p.stderr)
		}
	}
}

// checkStateFile checks everything in sandbox.json.
func checkStateFile(t *testing.T, p *sandboxProcess) {
	t.Helper()
	stat, err := os.Stat(filepath.Join(p.data, "sandbox.json"))
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("sandbox.json has the mode %v (%v), want 0600", stat.Mode(), err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(p.stateText), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api_url", "admin_url", "completer_admin_url", "stripe_url", "inbox_url", "callbacks_url"} {
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
			t.Errorf("pids is %s (%v), without a process for %s", encoded, err, name)
		}
	}
	conn, err := pgx.Connect(t.Context(), p.state.DatabaseURL)
	if err != nil {
		t.Fatalf("connecting to database_url: %v", err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // no error matters here
	var super, tcp bool
	if err := conn.QueryRow(t.Context(), `
		SELECT rolsuper, inet_server_port() IS NOT NULL
		FROM pg_roles
		WHERE rolname = current_user`).Scan(&super, &tcp); err != nil || !super || !tcp {
		t.Errorf("database_url: superuser %v, TCP %v, %v", super, tcp, err)
	}
	for _, url := range []string{p.state.AdminURL, p.state.CompleterAdminURL} {
		if status := get(t, url+"/readyz").status; status != http.StatusOK {
			t.Errorf("%s/readyz answers %d", url, status)
		}
	}
}

// checkGreeting runs the command of the greeting in a shell, twice.
func checkGreeting(t *testing.T, p *sandboxProcess) {
	t.Helper()
	for _, want := range []string{p.state.APIURL + "/docs\n", p.state.CompleterAdminURL + "/jobs\n", `eval "$(` + os.Args[0] + " env --data "} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("the greeting lacks %q: %s", want, p.stdout.String())
		}
	}
	if status := get(t, p.state.APIURL+"/docs").status; status != http.StatusOK {
		t.Errorf("the API reference answers %d", status)
	}
	for _, want := range []string{"HTTP/1.1 201 Created", "Idempotent-Replayed: true"} {
		_, command, _ := strings.Cut(p.stdout.String(), "curl ")
		command, _, _ = strings.Cut("curl "+command, "\n")
		out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s\nprints %s (%v), want %s", command, out, err, want)
		}
	}
}

// checkInbox waits for the receipts of the rides that were charged. A program
// gets them as JSON, and a browser as a page.
func checkInbox(t *testing.T, p *sandboxProcess) {
	t.Helper()
	var messages []inbox.Message
	eventually(t, "the inbox has all receipts", func() bool {
		return json.Unmarshal([]byte(get(t, p.state.InboxURL).body), &messages) == nil && len(messages) == 3
	})
	to := make(map[string]int)
	for _, m := range messages {
		to[m.To]++
		if !strings.HasPrefix(m.MessageID, "receipt.charged.ride_") || !strings.Contains(m.HTML, "$23.50") || !strings.Contains(m.Text, "$23.50") {
			t.Errorf("a message is %+v", m)
		}
	}
	if diff := cmp.Diff(map[string]int{"visa@example.com": 2, "second@example.com": 1}, to); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	newest := messages[0]
	page := ask(t, http.MethodGet, p.state.InboxURL, "", http.Header{"Accept": {"text/html,*/*"}})
	if !strings.Contains(page.body, "<h2>"+newest.Subject+"</h2>") {
		t.Errorf("the page is %s", page.body)
	}
}

// checkSeeds hails a ride as each account.
func checkSeeds(t *testing.T, p *sandboxProcess) {
	t.Helper()
	for i, want := range []struct {
		name, email string
		status      int
	}{
		{"visa", "visa@example.com", http.StatusCreated},
		{"declined", "declined@example.com", http.StatusPaymentRequired},
		{"second", "second@example.com", http.StatusCreated},
	} {
		account := p.state.Accounts[i]
		if account.Name != want.name || account.Email != want.email || !strings.HasPrefix(account.CallbackSecret, "whsec_") {
			t.Errorf("account %d is %+v, want %s", i, account, want.name)
		}
		// All accounts use the same key, and each gets its own ride.
		if got := p.hail(t, i, "kept"); got.status != want.status {
			t.Errorf("a ride of %s is answered with %d %s, want %d", want.name, got.status, got.body, want.status)
		}
	}
}

// checkEvents checks that the events about the rides of the seeds come in.
func checkEvents(t *testing.T, p *sandboxProcess) {
	t.Helper()
	eventually(t, "every event is in the inbox", func() bool {
		return strings.Contains(get(t, p.state.StripeURL+"/_fake/events").body, `"pending":[]`)
	})
	received := get(t, p.state.AdminURL+"/metrics").body
	if !strings.Contains(received, `rides_stripe_events_received_total{result="stored"} `) || strings.Contains(received, `rides_stripe_events_received_total{result="refused"}`) {
		t.Error("the api has not taken Stripe's events")
	}
}

func TestTwoSandboxesRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	left, right := spawn(t, folder(t), freePorts), spawn(t, folder(t), freePorts, "SHUTDOWN_TIMEOUT=1h")
	left.awaitReady(t)
	right.awaitReady(t)
	for _, p := range []*sandboxProcess{left, right} {
		if got := p.hail(t, 0, "same"); got.status != http.StatusCreated || got.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("a ride is answered with %d %s", got.status, got.body)
		}
	}
	right.state.APIURL, left.state.APIURL = left.state.APIURL, right.state.APIURL
	if got := left.hail(t, 0, "other"); got.status != http.StatusUnauthorized {
		t.Errorf("the API of one answers %d to the API key of the other, want 401", got.status)
	}
	left.state.APIURL, right.state.APIURL = right.state.APIURL, left.state.APIURL
	t.Run("one has a database of its own in a shell that has the variables of the other", func(t *testing.T) {
		t.Parallel()
		checkPrintedDatabase(t, left)
	})
	t.Run("one can use a database of the other", func(t *testing.T) {
		t.Parallel()
		checkGivenDatabase(t, left)
	})
	t.Run("a second Ctrl-C does not wait for a ride", func(t *testing.T) {
		t.Parallel()
		checkSecondInterrupt(t, right)
	})
}

func checkGivenDatabase(t *testing.T, host *sandboxProcess) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), host.state.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // no error matters here
	if _, err := conn.Exec(t.Context(), `CREATE DATABASE guest`); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(host.state.DatabaseURL, "/postgres?", "/guest?", 1)
	guest := start(t, folder(t), freePorts, "DATABASE_URL="+url)
	if guest.state.DatabaseURL != url || strings.Contains(guest.stateText, `"postgres":`) {
		t.Errorf("sandbox.json is %s, want the given database and no process id of it", guest.stateText)
	}
	if shown := guest.stdout.String() + guest.stderr.String(); strings.Contains(shown, url) {
		t.Errorf("it shows the password of the given database:\n%s", shown)
	}
	if got := guest.hail(t, 0, "same"); got.status != http.StatusCreated {
		t.Errorf("a ride is answered with %d %s", got.status, got.body)
	}
	if _, err := os.Stat(filepath.Join(guest.data, "postgres")); !os.IsNotExist(err) {
		t.Errorf("it made its own Postgres: %v", err)
	}
	if code := guest.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM ends it with exit code %d", code)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("it stopped the given database: %v", err)
	}
}

// checkSecondInterrupt stops a sandbox whose API would wait an hour for an
// answer of Stripe's.
func checkSecondInterrupt(t *testing.T, p *sandboxProcess) {
	t.Helper()
	processes := p.processes(t)
	ask(t, http.MethodPost, p.state.StripeURL+"/_fake/faults", `{"kind":"latency","latency":"1h"}`, nil)
	answered := make(chan answer, 1)
	go func() { answered <- p.hail(t, 0, "held") }()
	eventually(t, "Stripe has the ride", func() bool {
		return strings.Contains(get(t, p.state.StripeURL+"/_fake/ledger").body, `"in_flight":true`)
	})
	p.signal(syscall.SIGINT)
	eventually(t, "the API is asked to stop", func() bool { return strings.Contains(p.stderr.String(), "stopping api") })
	if code := p.stop(t, syscall.SIGINT); code != 1 {
		t.Errorf("it ended with exit code %d, want 1", code)
	}
	<-answered
	checkNothingRuns(t, processes)
	if _, err := os.Stat(filepath.Join(p.data, "sandbox.json")); !os.IsNotExist(err) {
		t.Errorf("sandbox.json is there after its end: %v", err)
	}
}
