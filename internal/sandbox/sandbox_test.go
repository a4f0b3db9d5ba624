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
	"github.com/rocketrides/rocketrides/internal/simulator"
)

// asMain names the environment variable that makes this test binary the sandbox
// or one of its children, or another program.
const asMain = "SANDBOX_AS_MAIN"

// quickExit removes the second that a process with the race detector sleeps at
// its end.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	switch os.Getenv(asMain) {
	case "":
	case "api":
		os.Exit(commands.API(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	case "completer":
		os.Exit(commands.Completer(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	case "simulator":
		os.Exit(simulator.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	default:
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for something that must happen.
const patience = 2 * time.Minute

// A sandboxProcess is a sandbox that runs as a process of its own.
type sandboxProcess struct {
	cmd            *exec.Cmd
	data           string
	stdout, stderr buffer
	ended          chan struct{}

	// stateText is the content of sandbox.json when everything was ready.
	stateText string
	state     state
}

// buffer collects the output of a process while the test reads it.
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

// folder makes a temporary folder that Postgres's account can reach also if the
// tests run as root.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freePorts are flags with which the kernel chooses the ports.
var freePorts = []string{"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--stripe", "127.0.0.1:0"}

// spawn starts a sandbox in the folder data and does not wait for it. The
// sandbox ends with the test.
func spawn(t *testing.T, data string, args []string, env ...string) *sandboxProcess {
	t.Helper()
	p := &sandboxProcess{data: data, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], append([]string{"--data", data}, args...)...)
	p.cmd.Env = append(append(os.Environ(), asMain+"=1", "DATABASE_URL=", quickExit), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell does
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s%s", data, &p.stdout, &p.stderr)
		}
	})
	return p
}

// start starts a sandbox and returns when everything is ready.
func start(t *testing.T, data string, args []string, env ...string) *sandboxProcess {
	t.Helper()
	p := spawn(t, data, args, env...)
	p.awaitReady(t)
	return p
}

func (p *sandboxProcess) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "it is ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended with exit code %d", p.cmd.ProcessState.ExitCode())
		default:
		}
		return p.read(t)
	})
}

// read reads sandbox.json, and reports whether the file is there and is this
// sandbox's.
func (p *sandboxProcess) read(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.data, "sandbox.json"))
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
	if s.PIDs.Sandbox != p.cmd.Process.Pid {
		return false // it is that of a sandbox that was killed
	}
	p.stateText, p.state = string(text), s
	return true
}

func (p *sandboxProcess) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop sends a signal and returns the exit code.
func (p *sandboxProcess) stop(t *testing.T, s syscall.Signal) int {
	t.Helper()
	p.signal(s)
	return p.wait(t)
}

// wait waits for the end and returns the exit code.
func (p *sandboxProcess) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// fixed returns flags with which another sandbox has the addresses of this one.
func (p *sandboxProcess) fixed() []string {
	address := func(url string) string { return strings.TrimPrefix(url, "http://") }
	return []string{"--listen", address(p.state.APIURL), "--admin", address(p.state.AdminURL), "--stripe", address(p.state.StripeURL)}
}

// processes returns the ids of all processes that this sandbox started, by
// name.
func (p *sandboxProcess) processes(t *testing.T) map[string]int {
	t.Helper()
	found, missing := p.running(t)
	if missing != "" {
		t.Fatalf("there is no %s among %v", missing, found)
	}
	return found
}

// running is processes, and names one that doesn't run, if there is one.
func (p *sandboxProcess) running(t *testing.T) (found map[string]int, missing string) {
	t.Helper()
	found = map[string]int{"postgres": p.state.PIDs.Postgres}
	for line := range strings.Lines(ps(t, "-axo", "pid=,ppid=,command=")) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[1] == strconv.Itoa(p.cmd.Process.Pid) && fields[3] == childArgument {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			found[fields[4]] = pid
		}
	}
	for _, name := range []string{"api", "completer", "fakestripe", "postgres"} {
		if !runs(t, found[name]) {
			return found, name
		}
	}
	return found, ""
}

func ps(t *testing.T, args ...string) string {
	t.Helper()
	// ps fails if it finds nothing.
	out, _ := exec.CommandContext(context.WithoutCancel(t.Context()), "ps", args...).Output()
	return string(out)
}

// runs reports whether a process exists and is no zombie.
func runs(t *testing.T, pid int) bool {
	t.Helper()
	state := strings.TrimSpace(ps(t, "-o", "stat=", "-p", strconv.Itoa(pid)))
	return pid != 0 && state != "" && !strings.HasPrefix(state, "Z")
}

// checkNothingRuns waits until all processes have ended.
func checkNothingRuns(t *testing.T, processes map[string]int) {
	t.Helper()
	for name, pid := range processes {
		eventually(t, name+" has ended", func() bool { return !runs(t, pid) })
	}
}

// eventually returns when done returns true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answer is the answer of a server. Its status is 0 if there was none.
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

// hail hails a ride as the account with this index in sandbox.json.
func (p *sandboxProcess) hail(t *testing.T, account int, key string) answer {
	t.Helper()
	return ask(t, http.MethodPost, p.state.APIURL+"/v1/rides",
		`{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`,
		http.Header{
			"Authorization":   {"Bearer " + p.state.Accounts[account].APIKey},
			"Idempotency-Key": {key}, "Content-Type": {"application/json"},
		})
}

// get sends a GET without an API key.
func get(t *testing.T, url string) answer {
	t.Helper()
	return ask(t, http.MethodGet, url, "", nil)
}
