package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/commands"
)

// asMain names the environment variable that makes this test binary the
// sandbox, which its children inherit, or another program.
const asMain = "SANDBOX_AS_MAIN"

// quickExit takes away the second that a process with the race detector waits
// at its end.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	switch os.Getenv(asMain) {
	case "":
	case "completer":
		os.Exit(commands.Completer(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	default:
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// box is a sandbox that runs as a process of its own.
type box struct {
	cmd            *exec.Cmd
	data           string
	stdout, stderr buffer
	ended          chan struct{}

	// said is what sandbox.json said when all was ready, and state is that.
	said  string
	state state
}

// buffer collects what a process says while the test reads along.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// folder is a temporary one that Postgres's account can reach when root tests.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// anywhere has the kernel choose the ports.
var anywhere = []string{"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--stripe", "127.0.0.1:0"}

// spawn starts a sandbox on data and doesn't wait for it. It ends with the
// test.
func spawn(t *testing.T, data string, args []string, env ...string) *box {
	t.Helper()
	b := &box{data: data, ended: make(chan struct{})}
	b.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], append([]string{"--data", data}, args...)...)
	b.cmd.Env = append(append(os.Environ(), asMain+"=1", "DATABASE_URL=", quickExit), env...)
	b.cmd.Stdout, b.cmd.Stderr = &b.stdout, &b.stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell does
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.cmd.Wait(); close(b.ended) }()
	t.Cleanup(func() {
		b.signal(syscall.SIGTERM)
		select {
		case <-b.ended:
		case <-time.After(patience):
			_ = b.cmd.Process.Kill()
			<-b.ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s%s", data, &b.stdout, &b.stderr)
		}
	})
	return b
}

// start starts a sandbox and returns when all of it is ready.
func start(t *testing.T, data string, args []string, env ...string) *box {
	t.Helper()
	b := spawn(t, data, args, env...)
	b.awaitReady(t)
	return b
}

func (b *box) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "it is ready", func() bool {
		select {
		case <-b.ended:
			t.Fatalf("it ended with exit code %d", b.cmd.ProcessState.ExitCode())
		default:
		}
		return b.read(t)
	})
}

// read reads sandbox.json, and tells whether it was there and this sandbox's.
func (b *box) read(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.data, "sandbox.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	var s state
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("sandbox.json is %q: %v", text, err)
	}
	if s.PIDs.Sandbox != b.cmd.Process.Pid {
		return false // that of one that was killed
	}
	b.said, b.state = string(text), s
	return true
}

func (b *box) signal(s syscall.Signal) { _ = b.cmd.Process.Signal(s) }

// stop sends a signal and returns the exit code.
func (b *box) stop(t *testing.T, s syscall.Signal) int {
	t.Helper()
	b.signal(s)
	return b.wait(t)
}

// wait returns the exit code when it has ended.
func (b *box) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-b.ended:
	case <-time.After(patience):
		t.Fatal("it doesn't end")
	}
	return b.cmd.ProcessState.ExitCode()
}

// fixed are the flags that give another sandbox the addresses of this one.
func (b *box) fixed() []string {
	address := func(url string) string { return strings.TrimPrefix(url, "http://") }
	return []string{"--listen", address(b.state.APIURL), "--admin", address(b.state.AdminURL), "--stripe", address(b.state.StripeURL)}
}

// processes are all that this sandbox started, by name.
func (b *box) processes(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{"postgres": b.state.PIDs.Postgres}
	for line := range strings.Lines(ps(t, "-axo", "pid=,ppid=,command=")) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[1] == strconv.Itoa(b.cmd.Process.Pid) && fields[3] == childArgument {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			found[fields[4]] = pid
		}
	}
	for _, name := range []string{"api", "completer", "fakestripe", "postgres"} {
		if !runs(t, found[name]) {
			t.Fatalf("there is no %s among %v", name, found)
		}
	}
	return found
}

func ps(t *testing.T, args ...string) string {
	t.Helper()
	// It fails when it finds nothing.
	out, _ := exec.CommandContext(context.WithoutCancel(t.Context()), "ps", args...).Output()
	return string(out)
}

// runs tells whether a process is there and no zombie.
func runs(t *testing.T, pid int) bool {
	t.Helper()
	state := strings.TrimSpace(ps(t, "-o", "stat=", "-p", strconv.Itoa(pid)))
	return pid != 0 && state != "" && !strings.HasPrefix(state, "Z")
}

// checkNothingRuns gives processes that were told to end the time to do so.
func checkNothingRuns(t *testing.T, processes map[string]int) {
	t.Helper()
	for name, pid := range processes {
		eventually(t, name+" has ended", func() bool { return !runs(t, pid) })
	}
}

// eventually returns when done is true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answer is what a server answered; its status is 0 when it didn't.
type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t *testing.T, method, url, body string, header http.Header) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := (&http.Client{Timeout: patience}).Do(request)
	if err != nil {
		return answer{}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// hail asks for a ride as the account of the given place in sandbox.json.
func (b *box) hail(t *testing.T, account int, key string) answer {
	t.Helper()
	return ask(t, http.MethodPost, b.state.APIURL+"/v1/rides",
		`{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`,
		http.Header{
			"Authorization":   {"Bearer " + b.state.Accounts[account].APIKey},
			"Idempotency-Key": {key}, "Content-Type": {"application/json"},
		})
}

// get reads an address without saying who asks.
func get(t *testing.T, url string) answer {
	t.Helper()
	return ask(t, http.MethodGet, url, "", nil)
}
