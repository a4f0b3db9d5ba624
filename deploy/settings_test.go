package deploy_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestComposePassesSettings reads docker-compose.yml as Compose does, with and
// without a setting, and looks for it in the service that needs it. No Docker
// engine is needed for that.
func TestComposePassesSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		service, set, variable, value, secret string
	}{
		{"completer", "SMTP_URL_FILE=secrets/mine", "SMTP_URL_FILE", "/run/secrets/smtp_url", "smtp_url"},
		{"completer", "MAIL_FROM=receipts@example.com", "MAIL_FROM", "receipts@example.com", ""},
		{"api", "STRIPE_WEBHOOK_SECRET_FILE=secrets/mine", "STRIPE_WEBHOOK_SECRET_FILE", "/run/secrets/stripe_webhook_secret", "stripe_webhook_secret"},
		{"api", "CALLBACK_ALLOW=172.16.0.0/12", "CALLBACK_ALLOW", "172.16.0.0/12", ""},
		{"completer", "CALLBACK_ALLOW=172.16.0.0/12", "CALLBACK_ALLOW", "172.16.0.0/12", ""},
	} {
		name, value, _ := strings.Cut(c.set, "=")
		if got := readCompose(t, nil).variable(c.service, c.variable); got != "" {
			t.Errorf("without %s, %s has %s=%s", name, c.service, c.variable, got)
		}
		with := readCompose(t, map[string]string{name: value})
		if got := with.variable(c.service, c.variable); got != c.value {
			t.Errorf("with %s, %s has %s=%s, want %s", c.set, c.service, c.variable, got, c.value)
		}
		if c.secret == "" {
			continue
		}
		if file := with.Secrets[c.secret].File; file != value || !slices.Contains(with.Services[c.service].Secrets, c.secret) {
			t.Errorf("with %s, the secret of %s is %s, and %s has %q", c.set, c.secret, file, c.service, with.Services[c.service].Secrets)
		}
	}
	for name, secret := range readCompose(t, nil).Secrets {
		if _, err := os.Stat("../" + secret.File); err != nil {
			t.Errorf("the secret %s of development: %v", name, err)
		}
	}
}

// compose is what these tests read of docker-compose.yml.
type compose struct {
	Services map[string]struct {
		Environment yaml.Node
		Secrets     []string
	}
	Secrets map[string]struct{ File string }
}

// readCompose reads docker-compose.yml with variables of the environment.
func readCompose(t *testing.T, environment map[string]string) (c compose) {
	t.Helper()
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	// Innermost first: a default may have a variable in it.
	expression := regexp.MustCompile(`\$\{(\w+)(:[-+])?([^{}$]*)\}`)
	for expression.Match(text) {
		text = expression.ReplaceAllFunc(text, func(found []byte) []byte {
			parts := expression.FindSubmatch(found)
			value := environment[string(parts[1])]
			if string(parts[2]) == ":-" && value == "" || string(parts[2]) == ":+" && value != "" {
				value = string(parts[3])
			}
			return []byte(value)
		})
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// variable returns a variable of a service, or "".
func (c compose) variable(service, name string) string {
	var lines []string
	environment := c.Services[service].Environment
	if environment.Decode(&lines) != nil {
		return "" // it is a map, as that of Postgres
	}
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}
