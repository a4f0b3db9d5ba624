package sandbox

import (
	"encoding/json"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
)

func TestTakenPortIsOneSentenceBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	for i, flag := range []string{"--listen", "--admin", "--stripe"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close() //nolint:errcheck // no error matters here
			args := append([]string{}, freePorts...)
			args[2*i+1] = other.Addr().String()
			p := spawn(t, folder(t), args)
			code, log := p.wait(t), p.stderr.String()
			if code != 1 || strings.Count(log, "\n") != 1 || !strings.Contains(log, other.Addr().String()) || !strings.Contains(log, flag) {
				t.Errorf("exit code %d and %q, want 1 and a sentence with the address and the flag", code, log)
			}
			if err := filepath.WalkDir(p.data, func(path string, entry fs.DirEntry, err error) error {
				if path != p.data && entry.Name() != "lock" {
					t.Errorf("it made %s", path)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// The children of a sandbox that was killed may need a moment to end.
func TestTakenPortIsTriedAgain(t *testing.T) {
	t.Parallel()
	other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = other.Close() })
	address, err := holdAddress(t.Context(), "listen", other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address.release()
}

// While one child starts, no other program may take the address of the next.
func TestAnAddressIsHeldUntilItsChildStarts(t *testing.T) {
	t.Setenv(asMain, "1")
	var log buffer
	random := "127.0.0.1:0"
	s := newSandbox(folder(t), run{Listen: random, Admin: random, Stripe: random, ShutdownTimeout: time.Second}, cli.Output{Stdout: &log, Stderr: &log}, "text")
	held, err := s.holdAddresses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.release()
	childEnd, parentEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer childEnd.Close()  //nolint:errcheck // nothing was written
	defer parentEnd.Close() //nolint:errcheck // nothing was written
	stop, err := s.startChildren(t.Context(), t.Context(), s.programs(held, childEnd, "", "")[:1])
	defer stop()
	if err != nil {
		t.Fatalf("%v: %s", err, &log)
	}
	for name, address := range map[string]*heldAddress{"api": held.api, "admin": held.admin, "completer": held.completer} {
		if other, err := cli.Listen(t.Context(), name, address.hostPort); err == nil {
			_ = other.Close()
			t.Errorf("another program can listen on the address of %s", name)
		}
	}
}

func TestCtrlCDuringTheStartIsNoFailure(t *testing.T) {
	t.Parallel()
	p := spawn(t, folder(t), freePorts)
	eventually(t, "it makes a database", func() bool { return strings.Contains(p.stderr.String(), "making a database") })
	if code := p.stop(t, syscall.SIGINT); code != 0 {
		t.Errorf("it ended with exit code %d, want 0", code)
	}
	eventually(t, "nothing of it runs", func() bool { return !strings.Contains(ps(t, "-axo", "command="), p.data) })
}

func TestInvalidSettingEndsTheStart(t *testing.T) {
	t.Parallel()
	p := spawn(t, folder(t), freePorts, "LEASE=0s", "LOG_FORMAT=json")
	code, log := p.wait(t), p.stderr.String()
	if code != 1 || !strings.Contains(log, "--lease (0s) must be at least 100ms") || !strings.Contains(log, "does not start") {
		t.Errorf("exit code %d and %s", code, log)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one is the error
		if !json.Valid([]byte(line)) || !strings.Contains(line, `"process":"`) {
			t.Errorf("with --log-format json it logs %s", line)
		}
	}
	if p.read(t) {
		t.Error("sandbox.json exists")
	}
}

func TestWrongUsageIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--bogus"}, {"bogus"}, {"--listen", "nowhere"}, {"--log-format", "xml"}, {"--shutdown-timeout", "0s"}} {
		p := spawn(t, folder(t), args)
		if code := p.wait(t); code != 2 || !strings.Contains(p.stderr.String(), "--help") {
			t.Errorf("%v: exit code %d and %q", args, code, p.stderr.String())
		}
	}
	if p := spawn(t, folder(t), []string{"--version"}); p.wait(t) != 0 || p.stdout.String() != "sandbox "+cli.Version()+"\n" {
		t.Errorf("--version prints %q", p.stdout.String())
	}
	p := spawn(t, folder(t), []string{"--help"})
	if code := p.wait(t); code != 0 {
		t.Errorf("--help: exit code %d", code)
	}
	for _, want := range []string{"--listen", "SANDBOX_DATA", `--data=".sandbox"`, "DATABASE_URL", "127.0.0.1:12111", "LEASE"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("the help lacks %s:\n%s", want, &p.stdout)
		}
	}
}
