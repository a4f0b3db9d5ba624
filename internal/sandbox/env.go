package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// env is the command that prints where the running sandbox is.
type env struct{}

// Run prints a line for each variable, in the form that a shell reads.
func (env) Run(all *commandLine, o cli.Output) error {
	running, err := readState(all.Data)
	if err != nil {
		return err
	}
	return o.Print(false, nil, exports(running))
}

// readState returns what the running sandbox has written to its folder.
func readState(dir string) (state, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFileName))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isLocked(dir) {
		return state{}, fmt.Errorf("no sandbox is ready in %s; start one, and wait until it prints its curl command, or choose another folder with --data", dir)
	}
	var found state
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err == nil && len(found.Accounts) == 0 {
		err = errors.New("it has no accounts")
	}
	if err != nil {
		return state{}, fmt.Errorf("reading the state of the sandbox: %w", err)
	}
	return found, nil
}

// exports returns the lines for a state. The API key and the callback secret are
// those of the first account, whose card works.
func exports(s state) string {
	var lines strings.Builder
	for _, variable := range [][2]string{
		{"API_URL", s.APIURL},
		{"API_KEY", s.Accounts[0].APIKey},
		{"CALLBACK_SECRET", s.Accounts[0].CallbackSecret},
		{"ADMIN_URL", s.AdminURL},
		{"COMPLETER_ADMIN_URL", s.CompleterAdminURL},
		{"STRIPE_URL", s.StripeURL},
		{"STRIPE_API_KEY", stripeKey},
		{"STRIPE_WEBHOOK_SECRET", webhookSecret},
		{"SMTP_URL", s.SMTPURL},
		{"MAIL_FROM", mailFrom},
		{"CALLBACK_ALLOW", callbackAllow()},
		{"DATABASE_URL", s.DatabaseURL},
		{printedURL, s.DatabaseURL},
		{"INBOX_URL", s.InboxURL},
		{"CALLBACKS_URL", s.CallbacksURL},
	} {
		fmt.Fprintf(&lines, "export %s=%s\n", variable[0], quoted(variable[1]))
	}
	return lines.String()
}

// plain are the words that a shell reads as they are.
var plain = regexp.MustCompile(`^[\w./:@%+,-]+$`)

// quoted returns a word that a shell reads as the value.
func quoted(value string) string {
	if plain.MatchString(value) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
