package commands

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func get(t *testing.T, url string) int {
	t.Helper()
	status, _ := fetch(t, url)
	return status
}

// fetch reads a page of an admin address; 0 when nobody answers.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// hailAndLeave hails a ride on a socket of its own and returns how to close it.
func (s *scene) hailAndLeave(t *testing.T, p *process, key string) func() {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.api+"/v1/rides", strings.NewReader(sanFranciscoToOakland))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	if err := request.Write(connection); err != nil {
		t.Fatal(err)
	}
	return func() { _ = connection.Close() }
}

func TestWrongUsageIsSaidInOneSentence(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	unmigrated := pgtest.Server(t, nil)
	for name, test := range map[string]struct {
		program string
		args    []string
		code    int
		says    string
	}{
		"a lease shorter than a call": {"api", []string{"--lease=1s"}, 2, "--lease (1s) must be longer than --stripe-timeout (1s)"},
		"no such flag":                {"api", []string{"--leese=1s"}, 2, "--leese"},
		"no such command":             {"api", []string{"sevre"}, 2, "sevre"},
		"a live key to a fake":        {"api", []string{"--stripe-api-key=sk_live_x"}, 2, "only ever sent to https://api.stripe.com"},
		"no Stripe key":               {"api", []string{"--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"a completer without a key":   {"completer", []string{"--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"a round without a key":       {"completer", []string{"once", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"a decision without a key":    {"completer", []string{"keys", "resolve", "k", "--not-charged", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"an audit without a key":      {"completer", []string{"audit", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"an audit in no time":         {"completer", []string{"audit", "--stripe-timeout=0s"}, 2, "--stripe-timeout must be"},
		"an empty key":                {"completer", []string{"once", "--stripe-api-key="}, 2, "--stripe-api-key (STRIPE_API_KEY) is empty"},
		"a Stripe nowhere":            {"api", []string{"--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"a completer's Stripe":        {"completer", []string{"--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"an audit's Stripe":           {"completer", []string{"audit", "--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"a negative patience":         {"api", []string{"--saved-500-after=-1s"}, 2, "--saved-500-after must not be negative"},
		"an address without a port":   {"api", []string{"--listen=localhost"}, 2, "--listen needs HOST:PORT"},
		"a taken address":             {"api", []string{"--listen=" + taken.Addr().String()}, 1, "another program listens on " + taken.Addr().String()},
		"a taken admin address":       {"completer", []string{"--admin-listen=" + taken.Addr().String()}, 1, "choose another address with --admin-listen"},
		"no database there":           {"api", []string{"--database-url=postgres://nobody:secret@127.0.0.1:1/x"}, 1, "127.0.0.1"},
		"no such phases":              {"api", []string{"--phases=both"}, 2, "--phases"},
		"a retention of nothing":      {"completer", []string{"once", "--retention=0s"}, 2, "--retention"},
		"no decision":                 {"completer", []string{"keys", "resolve", "k"}, 2, "--charged pi_… or --not-charged"},
		"two decisions":               {"completer", []string{"keys", "resolve", "k", "--charged=pi_1", "--not-charged"}, 2, "can't be used together"},
		"no payment intent":           {"completer", []string{"keys", "resolve", "k", "--charged=nonsense", "--database-url=postgres://127.0.0.1:1/none"}, 2, "--charged must be"},
		"no such key":                 {"completer", []string{"keys", "show", "nobody's"}, 1, `there is no key "nobody's"`},
		"no e-mail address":           {"api", []string{"accounts", "create", "--email=x", "--stripe-customer=cus_x", "--payment-method=pm_x"}, 2, "--email"},
		"no customer":                 {"api", []string{"accounts", "create", "--email=a@b.c", "--stripe-customer=x", "--payment-method=pm_x"}, 2, "--stripe-customer"},
		"a key for nobody":            {"api", []string{"keys", "create", "--account=acct_none"}, 1, "there is no such account"},
		"keys of nobody":              {"api", []string{"keys", "list", "--account=acct_none"}, 1, "there is no such account"},
		"revoking nothing":            {"api", []string{"keys", "revoke", "key_none"}, 1, "there is no such active API key"},
		"an unmigrated database":      {"api", []string{"--database-url=" + strings.Replace(unmigrated.URL(), "/postgres?", "/template1?", 1)}, 1, "api migrate"},
		"health of no address":        {"api", []string{"health", "--admin-listen=foo"}, 2, "--admin-listen needs HOST:PORT"},
		"a completer's health":        {"completer", []string{"health", "--admin-listen=foo"}, 2, "--admin-listen needs HOST:PORT"},
		"nobody to ask for health":    {"api", []string{"health", "--admin-listen=127.0.0.1:1"}, 1, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := s.run(t, test.program, test.args...)
			if code != test.code || !strings.Contains(stderr, test.says) || stdout != "" {
				t.Errorf("exit %d, want %d; it said %q and printed %q", code, test.code, stderr, stdout)
			}
			if strings.Contains(stderr, "secret@") || strings.Contains(stderr, "_x") {
				t.Errorf("it gives a secret away: %q", stderr)
			}
		})
	}
}

func TestUnsafeDatabasesAreRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			unsafe := pgtest.Server(t, map[string]string{setting: "off"})
			for _, args := range [][]string{{"api", "serve"}, {"completer", "run"}, {"completer", "once"}} {
				code, _, stderr := s.run(t, args[0], args[1], "--database-url="+unsafe.URL())
				if code != 1 || !strings.Contains(stderr, setting) || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%v: exit %d: %q", args, code, stderr)
				}
			}
		})
	}
}

func TestHelpIsComplete(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	settings := []string{"$DATABASE_URL", "$LISTEN", "$ADMIN_LISTEN", "$STRIPE_API_KEY", "$STRIPE_URL", "$STRIPE_TIMEOUT", "$LEASE", "$PHASES", "$CHARGES", "$MAX_FARE", "$BACKOFF_INITIAL", "$BACKOFF_MAX", "$MAX_ATTEMPTS", "$SAVED_500_AFTER", "30s", "20s", "127.0.0.1:8080"}
	rounds := []string{"$POLL", "$RETENTION", "72h", "127.0.0.1:9091"}
	for command, words := range map[string][]string{
		"api":                    append([]string{"serve", "migrate", "accounts create", "keys revoke", "health"}, settings...),
		"api serve":              settings,
		"completer":              append([]string{"run", "once", "keys list", "keys show", "keys retry", "keys park", "keys resolve", "health"}, rounds...),
		"completer run":          rounds,
		"completer keys resolve": {"--charged", "--not-charged", "--account"},
		"completer audit":        {"48h", "10m", "100", "on unless --no-stripe"},
		"fakestripe":             {"127.0.0.1:12111", "10s", "$FAKESTRIPE_DATA"},
	} {
		parts := strings.Fields(command)
		out := s.must(t, parts[0], append(parts[1:], "--help")...)
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("%s --help lacks %s", command, word)
			}
		}
	}
}

func TestAccountsAndKeys(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if out := s.must(t, "api", "accounts", "list"); !strings.Contains(out, s.account) || strings.Contains(out, s.key) {
		t.Errorf("accounts list: %s", out)
	}
	var made struct {
		KeyID  string `json:"key_id"`
		APIKey string `json:"api_key"`
	}
	out := s.must(t, "api", "keys", "create", "--account="+s.account, "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || !strings.HasPrefix(made.APIKey, "rr_test_") {
		t.Fatalf("keys create: %s %v", out, err)
	}
	if out := s.must(t, "api", "keys", "list", "--account="+s.account); strings.Count(out, "\n") != 3 || strings.Contains(out, made.APIKey) {
		t.Errorf("keys list: %s", out)
	}
	s.must(t, "api", "keys", "revoke", made.KeyID)
	if out := s.must(t, "api", "keys", "list", "--account="+s.account, "--json"); strings.Count(out, `"revoked_at":null`) != 1 {
		t.Errorf("keys list: %s", out)
	}
}

func TestAdminAddresses(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api, completer := s.start(t, "api", "PPROF=true"), s.start(t, "completer")
	if a := s.hail(api, "k"); a.status != 201 {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	for _, p := range []*process{api, completer} {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/rides": 404} {
			if got := get(t, p.admin+path); got != want {
				t.Errorf("%s%s: %d, want %d", p.admin, path, got, want)
			}
		}
	}
	if _, page := fetch(t, api.admin+"/metrics"); !strings.Contains(page, `phases_recovery_points_total{flow="hail",recovery_point="ride_created"} 1`) || !strings.Contains(page, "rides_http_requests_total") {
		t.Errorf("metrics lack what happened")
	} else if strings.Contains(page, "phases_parked_keys") {
		t.Error("the api says how many keys are parked, and has never counted them")
	}
	waitFor(t, "the completer counts", 20*time.Second, func() bool {
		_, page := fetch(t, completer.admin+"/metrics")
		return strings.Contains(page, "\nphases_parked_keys 0\n")
	})
	if got := get(t, api.admin+"/debug/pprof/"); got != 200 {
		t.Errorf("pprof is asked for, and gives %d", got)
	}
	if got := get(t, completer.admin+"/debug/pprof/"); got != 404 {
		t.Errorf("pprof is not asked for, and gives %d", got)
	}
	if got := get(t, api.api+"/metrics"); got != 404 {
		t.Errorf("the public address has metrics: %d", got)
	}
	s.must(t, "api", "health", "--admin-listen="+strings.TrimPrefix(api.admin, "http://"))
	s.must(t, "completer", "health", "--admin-listen="+strings.TrimPrefix(completer.admin, "http://"))
	if said := api.said() + completer.said(); strings.Contains(said, s.key) || strings.Contains(said, "sk_test_scene") {
		t.Error("a secret was logged")
	}
}
