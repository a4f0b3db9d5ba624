package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/fakestripe/command"
	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// programVariable names the environment variable that makes this test binary
// run as one of the programs, so that tests can kill and stop real processes.
const programVariable = "ROCKETRIDES_TEST_PROGRAM"

func TestMain(m *testing.M) {
	programs := map[string]func(context.Context, []string, io.Writer, io.Writer) int{
		"api": API, "completer": Completer, "fakestripe": command.Run,
	}
	if program := programs[os.Getenv(programVariable)]; program != nil {
		os.Exit(program(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	pgtest.Main(m)
}

// shortLease is for a test that waits for the end of a lease.
const shortLease = "LEASE=1500ms"

// scene is a database and a fake Stripe, on which a test runs programs.
type scene struct {
	t           testing.TB
	databaseURL string
	pool        *pgxpool.Pool
	fake        *fakestripe.Server
	stripeURL   string
	// account and apiKey are those of an account whose card works, and secret
	// signs its callbacks.
	account, apiKey, secret string
}

func newScene(tb testing.TB) *scene {
	tb.Helper()
	fake, stripeURL := startFake(tb)
	s := &scene{t: tb, databaseURL: pgtest.URL(tb), fake: fake, stripeURL: stripeURL}
	s.pool = pgtest.Open(tb, postgres.Options{URL: s.databaseURL})
	s.addAccount(tb, "visa", "pm_card_visa")
	return s
}

// addAccount makes an account with a customer and a card of the fake Stripe's.
// From now on requests are its.
func (s *scene) addAccount(tb testing.TB, name, card string) {
	tb.Helper()
	var made struct {
		AccountID string `json:"account_id"`
		APIKey    string `json:"api_key"`
		Secret    string `json:"callback_secret"`
	}
	out := s.must(tb, "api", "accounts", "create", "--email="+name+"@example.com", "--stripe-customer=cus_"+name, "--payment-method="+card, "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		tb.Fatalf("%v in %s", err, out)
	}
	s.account, s.apiKey, s.secret = made.AccountID, made.APIKey, made.Secret
}

// webhookSecret is what the fake Stripe signs its events with.
const webhookSecret = "whsec_scene0123456789abcdef01"

// startFake starts a fake Stripe and returns its URL.
func startFake(tb testing.TB) (*fakestripe.Server, string) {
	tb.Helper()
	fake, err := fakestripe.Open(fakestripe.Options{WebhookSecret: webhookSecret})
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(fake)
	tb.Cleanup(func() { _ = fake.Close(); server.Close() })
	return fake, server.URL
}

// environment returns a program's environment, without any setting of this
// machine's. Lease and time-out are so long that a busy machine keeps to them.
func (s *scene) environment(program string) []string {
	return []string{
		programVariable + "=" + program, "DATABASE_URL=" + s.databaseURL, "STRIPE_URL=" + s.stripeURL, "STRIPE_API_KEY=sk_test_scene",
		"LEASE=12s", "STRIPE_TIMEOUT=10s", "POLL=50ms", "LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0",
		"STRIPE_WEBHOOK_SECRET=whsec_former0123456789abcdef, " + webhookSecret, "LOG_FORMAT=json", "PATH=" + os.Getenv("PATH"), "USER=ann",
	}
}

// run runs a program until it ends.
func (s *scene) run(tb testing.TB, program string, args ...string) (code int, stdout, stderr string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], args...)
	// The race detector sleeps for a second before a program exits.
	command.Env = append(s.environment(program), "GORACE=atexit_sleep_ms=0")
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err := command.Run()
	if err != nil && command.ProcessState == nil {
		tb.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
}

// must runs a program that must succeed, and returns its stdout.
func (s *scene) must(tb testing.TB, program string, args ...string) string {
	tb.Helper()
	code, stdout, stderr := s.run(tb, program, args...)
	if code != 0 {
		tb.Fatalf("%s %s: exit %d: %s", program, strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// process is a program that was started. Its URLs are taken from its log.
type process struct {
	command *exec.Cmd
	api     string
	admin   string

	// done is closed when the process has ended.
	done chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// start starts a program with settings, such as LEASE=1s, and waits until it
// serves.
func (s *scene) start(tb testing.TB, program string, settings ...string) *process {
	tb.Helper()
	p := &process{command: exec.Command(os.Args[0]), done: make(chan struct{})} //nolint:noctx // it ends by its own means, or in Cleanup
	p.command.Env = append(s.environment(program), settings...)
	stderr, err := p.command.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		tb.Fatal(err)
	}
	serving := make(chan struct{})
	go p.read(stderr, serving)
	tb.Cleanup(func() {
		p.signal(tb, syscall.SIGKILL)
		<-p.done
		if tb.Failed() {
			tb.Logf("log of %s:\n%s", program, p.said())
		}
	})
	select {
	case <-serving:
	case <-p.done:
		tb.Fatalf("%s ended before it served: %s", program, p.said())
	case <-time.After(time.Minute):
		tb.Fatalf("%s does not serve: %s", program, p.said())
	}
	return p
}

// read reads a process's log until it ends, and closes serving at the line that
// has its addresses.
func (p *process) read(stderr io.Reader, serving chan struct{}) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		var line struct{ Msg, API, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Admin != "" && p.admin == "" {
			p.api, p.admin = "http://"+line.API, "http://"+line.Admin
			close(serving)
		}
	}
	_ = p.command.Wait()
	close(p.done)
}

// said returns the log so far.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// signal sends a signal to a process, which may have ended.
func (p *process) signal(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	if err := p.command.Process.Signal(signal); err != nil && !strings.Contains(err.Error(), "already finished") {
		tb.Errorf("signalling: %v", err)
	}
}

// kill kills a process and waits for its end.
func (p *process) kill(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGKILL)
	<-p.done
}

// waitForStripe waits until Stripe has received n POST requests.
func (s *scene) waitForStripe(tb testing.TB, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	post := func(send fakestripe.Send) bool { return send.Method == http.MethodPost }
	if err := s.fake.WaitSends(ctx, n, post); err != nil {
		tb.Fatalf("waiting for %d requests to Stripe: %v", n, err)
	}
}

func number(tb testing.TB, s *scene, sql string, args ...any) int {
	tb.Helper()
	var n int
	if err := s.pool.QueryRow(tb.Context(), sql, args...).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return n
}

// waitFor polls a condition that depends on another process.
func waitFor(tb testing.TB, what string, limit time.Duration, done func() bool) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waitForCharge waits until a key has finished with a charged ride, and checks
// all charges.
func (s *scene) waitForCharge(tb testing.TB, key string, limit time.Duration) {
	tb.Helper()
	waitFor(tb, "the ride of "+key+" is charged", limit, func() bool {
		return number(tb, s, `SELECT count(*) FROM rides r JOIN idempotency_keys k USING (account_id, key)
			WHERE key = $1 AND r.status = 'charged' AND k.finished_at IS NOT NULL`, key) == 1
	})
	s.checkCharges(tb)
}

// checkCharges checks that no ride was charged twice, and that every charged
// ride has a charge and a receipt.
func (s *scene) checkCharges(tb testing.TB) {
	tb.Helper()
	for ride, n := range s.fake.Charges() {
		if n != 1 {
			tb.Errorf("ride %s was charged %d times", ride, n)
		}
	}
	rides := number(tb, s, `SELECT count(*) FROM rides WHERE status = 'charged'`)
	if charges := len(s.fake.Charges()); rides > charges {
		tb.Errorf("%d charged rides, %d charges", rides, charges)
	}
	// On a cluster a job that is being moved may be seen in both places, or in
	// none.
	waitFor(tb, "each charged ride has a receipt", 20*time.Second, func() bool {
		return number(tb, s, `SELECT count(*) FROM (SELECT id FROM staged_jobs UNION SELECT args ->> 'id' FROM river.river_job) AS jobs`) == rides
	})
}
