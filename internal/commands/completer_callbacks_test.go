package commands

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCallbackSecretsAreRotated(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var made struct {
		Secret string `json:"callback_secret"`
		Until  string `json:"former_secret_until"`
	}
	if err := json.Unmarshal([]byte(s.must(t, "api", "accounts", "rotate-callback-secret", s.account, "--json")), &made); err != nil ||
		!strings.HasPrefix(made.Secret, "whsec_") || made.Until == "" {
		t.Errorf("%+v, %v", made, err)
	}
	args := []string{"accounts", "rotate-callback-secret", s.account}
	if got := s.must(t, "api", args...); !strings.Contains(got, "also signed with the former secret until 20") {
		t.Errorf("it prints %s", got)
	}
	args = append(args, "--overlap=0s")
	if got := s.must(t, "api", args...); !strings.Contains(got, "The former secret signs nothing any more.") || strings.Contains(got, "until") {
		t.Errorf("without an overlap it prints %s", got)
	}
	if got := s.must(t, "api", append(args, "--json")...); !strings.Contains(got, "callback_secret") || strings.Contains(got, "until") {
		t.Errorf("without an overlap it prints %s", got)
	}
	if code, _, stderr := s.run(t, "api", "accounts", "rotate-callback-secret", "acct_none"); code != 1 || !strings.Contains(stderr, "no such account") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestCompleterCallbacks(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if got := s.must(t, "completer", "callbacks", "list", "--json"); got != "[]\n" {
		t.Errorf("without callbacks list prints %q", got)
	}
	s.exec(t, `INSERT INTO callbacks (account_id, id, key, job_id, ride_id, type, url, body, status, attempts, last_status, retry_until, ended_at)
		VALUES ('acct_1', 'msg_1', 'k', 'job_1', 'ride_1', 'ride.charged', 'https://example.com/secret', '{}', 'given_up', 3, 500, now(), now())`)
	s.exec(t, `INSERT INTO callback_endpoints (account_id, host, switched_off_at) VALUES ('acct_1', 'example.com', now())`)
	if got := s.must(t, "completer", "callbacks", "list", "--failed"); !strings.Contains(got, "answered 500") || strings.Contains(got, "secret") {
		t.Errorf("list prints %s", got)
	}
	if got := s.must(t, "completer", "callbacks", "endpoints"); !strings.Contains(got, "switched off") {
		t.Errorf("endpoints prints %s", got)
	}
	s.exec(t, `INSERT INTO callback_endpoints (account_id, host) SELECT 'acct_2', n || '.example.com' FROM generate_series(1, 3) AS n`)
	if code, got, stderr := s.run(t, "completer", "callbacks", "endpoints", "--limit=2"); code != 0 || strings.Count(got, "\n") != 3 || !strings.Contains(stderr, "there are more") {
		t.Errorf("--limit=2 exits with %d and prints %s%s", code, got, stderr)
	}
	if code, _, stderr := s.run(t, "completer", "callbacks", "endpoints", "--limit=0"); code != 2 {
		t.Errorf("--limit=0 exits with %d: %s", code, stderr)
	}
	if got := s.must(t, "completer", "callbacks", "enable", "example.com"); !strings.Contains(got, "gets callbacks again") {
		t.Errorf("enable prints %s", got)
	}
	if got := s.must(t, "completer", "callbacks", "resend", "msg_1"); !strings.Contains(got, "msg_1 is sent again") {
		t.Errorf("resend prints %s", got)
	}
	for _, args := range [][]string{{"enable", "example.com"}, {"resend", "msg_2"}} {
		if code, _, _ := s.run(t, "completer", append([]string{"callbacks"}, args...)...); code != 1 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
