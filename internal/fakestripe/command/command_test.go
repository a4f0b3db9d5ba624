package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asMain names the environment variable that makes this test binary run as the
// program.
const asMain = "FAKESTRIPE_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// command returns the program with arguments, not yet started. It is killed at
// the end of the test, or after 30 seconds.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...) //nolint:gosec // it is this test
	c.Env = append(os.Environ(), asMain+"=1")
	return c
}

// run runs the program until it ends.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := command(t, args...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	exit := (*exec.ExitError)(nil)
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), problems.String()
}

// start starts the program on a free port and returns it and its URL.
func start(t *testing.T, args ...string) (c *exec.Cmd, url string) {
	t.Helper()
	c = command(t, append(args, "--listen", "127.0.0.1:0")...)
	c.Stderr = io.Discard
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("fakestripe did not start: %v", err)
	}
	_, rest, _ := strings.Cut(line, "http://")
	address, _, _ := strings.Cut(rest, ";")
	return c, "http://" + address
}

// post returns the status of the answer, or 0 when there is none.
func post(t *testing.T, url, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return 0
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func TestSignalsEndItWithExitCode0(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, url := start(t)
			if code := post(t, url+"/_fake/reset", ""); code != http.StatusOK {
				t.Errorf("fakestripe answers %d", code)
			}
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Errorf("fakestripe ended with %v", err)
			}
		})
	}
}

// A request that a fault holds for an hour does not delay the shutdown for
// long.
func TestHeldRequestDoesNotPreventShutdown(t *testing.T) {
	t.Parallel()
	c, url := start(t)
	post(t, url+"/_fake/faults", `{"kind":"latency","latency":"1h"}`)
	held := make(chan int, 1)
	go func() { held <- post(t, url+"/v1/customers", "") }()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(read(t, url+"/_fake/ledger"), `"in_flight":true`); {
		if time.Now().After(deadline) {
			t.Fatal("the request did not arrive")
		}
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("fakestripe ended with %v", err)
	}
	if code := <-held; code != 0 {
		t.Errorf("the held request was answered with %d", code)
	}
}

// read returns the body of a page.
func read(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestPortOrDirectoryInUseIsExplainedInOneSentence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, url := start(t, "--data", dir)
	address := strings.TrimPrefix(url, "http://")
	for want, args := range map[string][]string{
		"another program listens on " + address: {"--listen", address},
		"another fake Stripe uses":              {"--listen", "127.0.0.1:0", "--data", dir},
		"listening on 127.0.0.1:99999":          {"--listen", "127.0.0.1:99999"},
	} {
		code, _, stderr := run(t, args...)
		if code != 1 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d and %q, want 1 and one line with %q", args, code, stderr, want)
		}
	}
}

func TestWrongUsageIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--bogus"}, {"bogus"}, {"--listen", "nowhere"}, {"--log-format", "xml"}, {"--settle-after", "soon"}, {"--rate-limit", "-1"}} {
		code, stdout, stderr := run(t, args...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, "--help") {
			t.Errorf("%v: exit code %d, %q and %q; want 2 and a pointer to --help on stderr", args, code, stdout, stderr)
		}
	}
}

func TestHelpShowsEveryFlag(t *testing.T) {
	t.Parallel()
	code, stdout, _ := run(t, "--help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		`--listen="127.0.0.1:12111"`, "FAKESTRIPE_LISTEN", "--data=DIR", "FAKESTRIPE_DATA", "--settle-after=10s",
		"FAKESTRIPE_SETTLE_AFTER", `--log-format="text"`, "LOG_FORMAT", "serve", "health",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the help lacks %s:\n%s", want, stdout)
		}
	}
}

func TestHealthChecksTheRunningProgram(t *testing.T) {
	t.Parallel()
	c, url := start(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	for _, address := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		if code, _, stderr := run(t, "health", "--listen", address); code != 0 {
			t.Errorf("%s: exit code %d: %s", address, code, stderr)
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it says that the process was killed
	if code, _, stderr := run(t, "health", "--listen", "127.0.0.1:"+port); code != 1 || stderr == "" {
		t.Errorf("without a fake: exit code %d and %q", code, stderr)
	}
}
