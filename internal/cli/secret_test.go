package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// vault is a program with one command, which takes a secret.
type vault struct {
	Open open `cmd:"" help:"Open the vault."`
}

type open struct {
	PIN  string `help:"The number that opens it." required:"" env:"VAULT_PIN" secret:"" placeholder:"NUMBER"`
	Name string `help:"Which vault." default:"big" env:"VAULT_NAME"`
}

func (c *open) Run(_ context.Context, o cli.Output) error {
	return o.Print(false, nil, fmt.Sprintf("%s opens %s", c.PIN, c.Name))
}

// runVault runs the program without a name of its own in the environment.
func runVault(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(t.Context(), "vault", "A vault.", new(vault), args, cli.Output{Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// fileOf makes a file and returns its path.
func fileOf(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretIsReadFromItsFile(t *testing.T) {
	pin := fileOf(t, "\n 12 34\r\n")
	for name, test := range map[string]struct {
		plain, file string
		args        []string
		want        string
	}{
		"without the blanks around it":   {file: pin, want: "12 34 opens big"},
		"the command line comes first":   {file: pin, args: []string{"--pin=5"}, want: "5 opens big"},
		"an empty variable is not set":   {plain: "", file: pin, want: "12 34 opens big"},
		"an empty file name is not set":  {plain: "7", file: "", want: "7 opens big"},
		"an unused file is never opened": {file: "/nowhere", args: []string{"--pin=5"}, want: "5 opens big"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VAULT_PIN", test.plain)
			t.Setenv("VAULT_PIN_FILE", test.file)
			code, stdout, stderr := runVault(t, append([]string{"open"}, test.args...)...)
			if code != 0 || stdout != test.want {
				t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, test.want)
			}
		})
	}
}

func TestSecretWithoutAUsableFileIsWrongUsage(t *testing.T) {
	pin := fileOf(t, "filed secret")
	for name, test := range map[string]struct{ plain, file, says string }{
		"both are set":     {"plain secret", pin, "VAULT_PIN and VAULT_PIN_FILE are both set; set one of them"},
		"no such file":     {"", pin + "x", "reading the file of VAULT_PIN_FILE: open " + pin + "x: no such file or directory"},
		"a directory":      {"", filepath.Dir(pin), "is a directory"},
		"an empty file":    {"", fileOf(t, " \n"), "is empty"},
		"neither is given": {"", "", "missing flags: --pin=NUMBER (or set VAULT_PIN, or VAULT_PIN_FILE to the name of a file that holds it)\nRun vault open --help"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VAULT_PIN_FILE", test.file)
			t.Setenv("VAULT_PIN", test.plain)
			if test.plain == "" {
				if err := os.Unsetenv("VAULT_PIN"); err != nil {
					t.Fatal(err)
				}
			}
			code, stdout, stderr := runVault(t, "open")
			if code != 2 || stdout != "" || !strings.Contains(stderr, test.says) || strings.Count(stderr, "\n") != 2 {
				t.Errorf("exit %d, stderr %q, want %q", code, stderr, test.says)
			}
			if strings.Contains(stderr, " secret") {
				t.Errorf("stderr has the secret: %q", stderr)
			}
		})
	}
}

func TestOnlySecretsHaveFiles(t *testing.T) {
	t.Setenv("VAULT_NAME_FILE", "/nowhere")
	if code, stdout, stderr := runVault(t, "open", "--pin=5"); code != 0 || stdout != "5 opens big" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestHelpNamesTheFileOfASecretWithoutReadingIt(t *testing.T) {
	t.Setenv("VAULT_PIN_FILE", "/nowhere")
	code, stdout, stderr := runVault(t, "open", "--help")
	help := strings.Join(strings.Fields(stdout), " ")
	if code != 0 || !strings.Contains(help, "($VAULT_PIN). $VAULT_PIN_FILE names a file that holds it.") || strings.Contains(help, "VAULT_NAME_FILE") {
		t.Errorf("exit %d, help %q, stderr %q", code, help, stderr)
	}
}
