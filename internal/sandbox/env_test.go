package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runEnv runs the command env, and returns its exit code and output.
func runEnv(t *testing.T, data string) (code int, stdout, stderr string) {
	t.Helper()
	p := spawn(t, data, []string{"env"})
	return p.wait(t), p.stdout.String(), p.stderr.String()
}

// checkEnv lets a shell read what the command prints.
func checkEnv(t *testing.T, p *sandboxProcess) {
	t.Helper()
	code, lines, stderr := runEnv(t, p.data)
	if code != 0 || stderr != "" {
		t.Fatalf("env: exit code %d, %s", code, stderr)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", lines+`
		printf '%s\n' "$API_URL" "$API_KEY" "$ADMIN_URL" "$STRIPE_URL" "$STRIPE_API_KEY" "$DATABASE_URL" "$INBOX_URL" "$CALLBACKS_URL"`)
	printed, err := shell.CombinedOutput()
	want := strings.Join([]string{p.state.APIURL, p.state.Accounts[0].APIKey, p.state.AdminURL, p.state.StripeURL, stripeKey, p.state.DatabaseURL, p.state.InboxURL, p.state.CallbacksURL, ""}, "\n")
	if err != nil || string(printed) != want {
		t.Errorf("a shell reads %q (%v), want %q", printed, err, want)
	}
}

func TestEnvOfNoSandboxIsOneSentence(t *testing.T) {
	t.Parallel()
	killed := folder(t) // a sandbox that was killed leaves its file
	for _, name := range []string{"sandbox.json", "lock"} {
		if err := os.WriteFile(filepath.Join(killed, name), []byte(`{"accounts":[{}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"never started": filepath.Join(folder(t), "none"), "killed": killed} {
		if code, stdout, stderr := runEnv(t, data); code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "no sandbox is ready in "+data) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
}

func TestShellReadsQuotedWords(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"", "a b", `it's "$HOME" \ & ;`, "two\nlines", "''", "./bin/sandbox", "a=b", "~", "*", "a\n./b", "é"} {
		printed, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quoted(word)).Output()
		if err != nil || string(printed) != word {
			t.Errorf("a shell reads %s as %q (%v)", quoted(word), printed, err)
		}
	}
}
