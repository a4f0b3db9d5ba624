package sandbox

import (
	"encoding/json"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestATakenPortIsOneSentenceBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	for i, flag := range []string{"--listen", "--admin", "--stripe"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close() //nolint:errcheck // nobody uses it
			args := append([]string{}, anywhere...)
			args[2*i+1] = other.Addr().String()
			b := spawn(t, folder(t), args)
			code, said := b.wait(t), b.stderr.String()
			if code != 1 || strings.Count(said, "\n") != 1 || !strings.Contains(said, other.Addr().String()) || !strings.Contains(said, flag) {
				t.Errorf("exit code %d and %q, want 1 and a sentence with the address and the flag", code, said)
			}
			if err := filepath.WalkDir(b.data, func(path string, entry fs.DirEntry, err error) error {
				if path != b.data && entry.Name() != "lock" {
					t.Errorf("it left %s", path)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// The children of a sandbox that was killed may need a moment to end.
func TestAPortThatIsAboutToBeFreeIsWaitedFor(t *testing.T) {
	t.Parallel()
	other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = other.Close() })
	door, err := openDoor(t.Context(), "listen", other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	door.release()
}

func TestCtrlCAmidTheStartIsNoFailure(t *testing.T) {
	t.Parallel()
	b := spawn(t, folder(t), anywhere)
	eventually(t, "it makes a database", func() bool { return strings.Contains(b.stderr.String(), "making a database") })
	if code := b.stop(t, syscall.SIGINT); code != 0 {
		t.Errorf("it ended with exit code %d, want 0", code)
	}
	eventually(t, "nothing of it runs", func() bool { return !strings.Contains(ps(t, "-axo", "command="), b.data) })
}

func TestNonsenseInASettingEndsTheStart(t *testing.T) {
	t.Parallel()
	b := spawn(t, folder(t), anywhere, "LEASE=1s", "STRIPE_TIMEOUT=2s", "LOG_FORMAT=json")
	code, said := b.wait(t), b.stderr.String()
	if code != 1 || !strings.Contains(said, "--lease (1s) must be longer than --stripe-timeout (2s)") || !strings.Contains(said, "does not start") {
		t.Errorf("exit code %d and %s", code, said)
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one is for people
		if !json.Valid([]byte(line)) || !strings.Contains(line, `"process":"`) {
			t.Errorf("under --log-format json it logs %s", line)
		}
	}
	if b.read(t) {
		t.Error("sandbox.json says that all is ready")
	}
}

func TestWrongUsageIsExitCode2(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--bogus"}, {"bogus"}, {"--listen", "nowhere"}, {"--log-format", "xml"}, {"--shutdown-timeout", "0s"}} {
		b := spawn(t, folder(t), args)
		if code := b.wait(t); code != 2 || !strings.Contains(b.stderr.String(), "--help") {
			t.Errorf("%v: exit code %d and %q", args, code, b.stderr.String())
		}
	}
	b := spawn(t, folder(t), []string{"--help"})
	if code := b.wait(t); code != 0 {
		t.Errorf("--help: exit code %d", code)
	}
	for _, want := range []string{"--listen", "SANDBOX_DATA", `--data=".sandbox"`, "DATABASE_URL", "127.0.0.1:12111", "LEASE"} {
		if !strings.Contains(b.stdout.String(), want) {
			t.Errorf("the help lacks %s:\n%s", want, &b.stdout)
		}
	}
}
