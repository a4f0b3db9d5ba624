package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// runEnv runs the command env, and returns its exit code and output.
func runEnv(t *testing.T, data string) (code int, stdout, stderr string) {
	t.Helper()
	p := spawn(t, data, []string{"env"})
	return p.wait(t), p.stdout.String(), p.stderr.String()
}

// checkEnv lets a shell read what the command prints, and returns the
// environment of a program that the shell starts then.
func checkEnv(t *testing.T, p *sandboxProcess) (environment []string) {
	t.Helper()
	code, lines, stderr := runEnv(t, p.data)
	if code != 0 || stderr != "" {
		t.Fatalf("env: exit code %d, %s", code, stderr)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", lines+`
		printf '%s\n' "$API_URL" "$API_KEY" "$CALLBACK_SECRET" "$ADMIN_URL" "$COMPLETER_ADMIN_URL" "$STRIPE_URL" "$STRIPE_API_KEY" "$DATABASE_URL" "$INBOX_URL" "$CALLBACKS_URL" \
			"$STRIPE_WEBHOOK_SECRET" "$SMTP_URL" "$MAIL_FROM" "$CALLBACK_ALLOW"`)
	printed, err := shell.CombinedOutput()
	want := strings.Join([]string{
		p.state.APIURL, p.state.Accounts[0].APIKey, p.state.Accounts[0].CallbackSecret, p.state.AdminURL, p.state.CompleterAdminURL,
		p.state.StripeURL, stripeKey, p.state.DatabaseURL, p.state.InboxURL, p.state.CallbacksURL,
		webhookSecret, p.state.SMTPURL, mailFrom, loopback, "",
	}, "\n")
	if err != nil || string(printed) != want {
		t.Errorf("a shell reads %q (%v), want %q", printed, err, want)
	}
	all, err := exec.CommandContext(t.Context(), "sh", "-c", lines+"env").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(all), "\n"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return !strings.Contains(lines, "export "+name+"=")
	})
}

// checkPrintedDatabase starts a sandbox in a shell that has read the variables
// of another. Its Stripe knows nothing of the other's payments, so it must not
// touch the other's rides.
func checkPrintedDatabase(t *testing.T, host *sandboxProcess) {
	t.Helper()
	guest := start(t, folder(t), freePorts, checkEnv(t, host)...)
	if guest.state.DatabaseURL == host.state.DatabaseURL || guest.state.PIDs.Postgres == 0 {
		t.Errorf("sandbox.json is %s, want a Postgres of its own", guest.stateText)
	}
	if log := guest.stderr.String(); strings.Count(log, "DATABASE_URL is what `sandbox env` printed: ignoring it") != 1 {
		t.Errorf("it does not say once that it ignores DATABASE_URL:\n%s", log)
	}
	url := "postgres://127.0.0.1:1/chosen"
	chosen := spawn(t, folder(t), append([]string{"--database-url", url}, freePorts...), checkEnv(t, host)...)
	if code, log := chosen.wait(t), chosen.stderr.String(); code != 1 || !strings.Contains(log, "using the Postgres of DATABASE_URL") {
		t.Errorf("--database-url: exit code %d and %s, want that of the command line", code, log)
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
