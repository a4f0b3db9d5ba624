package commands

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMistakesHaveAnExitCodeAndASentence(t *testing.T) {
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
		"lease that can't be renewed in time":   {"api", []string{"--lease=99ms"}, 2, "--lease (99ms) must be at least 100ms"},
		"unknown flag":                          {"api", []string{"--leese=1s"}, 2, "--leese"},
		"unknown command":                       {"api", []string{"sevre"}, 2, "sevre"},
		"live key for a fake":                   {"api", []string{"--stripe-api-key=sk_live_x"}, 2, "only ever sent to https://api.stripe.com; leave STRIPE_URL unset"},
		"public Stripe key":                     {"api", []string{"--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"public Stripe key for completer":       {"completer", []string{"--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"public Stripe key for completer once":  {"completer", []string{"once", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"public Stripe key for keys resolve":    {"completer", []string{"keys", "resolve", "k", "--not-charged", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"public Stripe key for audit":           {"completer", []string{"audit", "--stripe-api-key=pk_test_x"}, 2, "the Stripe key must be"},
		"audit of what was before Stripe":       {"completer", []string{"audit", "--since=500000h"}, 2, "--since must not reach back beyond the year 2011"},
		"Stripe time-out of zero":               {"completer", []string{"audit", "--stripe-timeout=0s"}, 2, "--stripe-timeout must be"},
		"Stripe time-out beyond the window":     {"api", []string{"--stripe-timeout=20h"}, 2, "--stripe-timeout must be shorter"},
		"empty Stripe key":                      {"completer", []string{"once", "--stripe-api-key="}, 2, "--stripe-api-key (STRIPE_API_KEY) is empty"},
		"Stripe URL that is none":               {"api", []string{"--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"Stripe URL that is none for completer": {"completer", []string{"--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"Stripe URL that is none for audit":     {"completer", []string{"audit", "--stripe-url=nonsense"}, 2, "the Stripe URL must be"},
		"negative duration":                     {"api", []string{"--saved-500-after=-1s"}, 2, "--saved-500-after must not be negative"},
		"address without a port":                {"api", []string{"--listen=localhost"}, 2, "--listen needs HOST:PORT"},
		"address in use":                        {"api", []string{"--listen=" + taken.Addr().String()}, 1, "another program listens on " + taken.Addr().String()},
		"admin address in use":                  {"completer", []string{"--admin-listen=" + taken.Addr().String()}, 1, "choose another address with --admin-listen"},
		"no database at the URL":                {"api", []string{"--database-url=postgres://nobody:secret@127.0.0.1:1/x"}, 1, "127.0.0.1"},
		"unknown value of --phases":             {"api", []string{"--phases=both"}, 2, "--phases"},
		"shutdown in no time":                   {"api", []string{"--shutdown-timeout=0s"}, 2, "--shutdown-timeout must be positive"},
		"shutdown of a round in no time":        {"completer", []string{"once", "--shutdown-timeout=0s"}, 2, "--shutdown-timeout must be positive"},
		"shutdown of the completer in no time":  {"completer", []string{"--shutdown-timeout=-1s"}, 2, "--shutdown-timeout must be positive"},
		"limit that is no number":               {"api", []string{"--rate-limit=NaN"}, 2, "--rate-limit must be 0, or from 0.001"},
		"limit below nothing":                   {"api", []string{"--rate-limit=-1"}, 2, "--rate-limit must be 0, or from 0.001"},
		"burst of nothing":                      {"api", []string{"--rate-burst=0"}, 2, "--rate-burst from 1"},
		"account of nothing":                    {"api", []string{"accounts", "create"}, 2, "missing flags: --email=STRING, --payment-method=pm_…, --stripe-customer=cus_…"},
		"account without an address":            {"api", []string{"accounts", "create", "--email=", "--stripe-customer=cus_1", "--payment-method=pm_1"}, 2, "--email must be a plain address"},
		"two listeners at one address":          {"api", []string{"--listen=127.0.0.1:1", "--admin-listen=127.0.0.1:1"}, 2, "--listen and --admin-listen must be two addresses"},
		"proxy that is no network":              {"api", []string{"--trusted-proxies=10.0.0.1"}, 2, `--trusted-proxies: must be networks such as 10.0.0.0/8, separated by commas, not "10.0.0.1"`},
		"one of two networks that is none":      {"completer", []string{"--callback-allow=127.0.0.0/8,foo"}, 2, `--callback-allow: must be networks such as 10.0.0.0/8, separated by commas, not "foo"`},
		"retention of days":                     {"completer", []string{"--retention=3d"}, 2, `--retention: must be a duration such as 72h or 30m, not "3d"`},
		"fare that no ride has":                 {"api", []string{"--max-fare=499"}, 2, "--max-fare must be at least 500"},
		"list of no keys":                       {"completer", []string{"keys", "list", "--limit=0"}, 2, "--limit must be positive"},
		"list of fewer keys than none":          {"completer", []string{"keys", "list", "--limit=-5"}, 2, "--limit must be positive"},
		"keys that are not made yet":            {"completer", []string{"keys", "list", "--older-than=-1h"}, 2, "--older-than must not be negative"},
		"rounds faster than River's":            {"completer", []string{"--poll=1ms"}, 2, "--poll must be at least 2ms"},
		"retention of zero":                     {"completer", []string{"once", "--retention=0s"}, 2, "--retention"},
		"no decision":                           {"completer", []string{"keys", "resolve", "k"}, 2, "--charged pi_… or --not-charged"},
		"two decisions":                         {"completer", []string{"keys", "resolve", "k", "--charged=pi_1", "--not-charged"}, 2, "can't be used together"},
		"unverified without a reason":           {"completer", []string{"keys", "resolve", "k", "--not-charged", "--unverified", "--reason= "}, 2, "--unverified and --reason belong together"},
		"a reason for Stripe's own word":        {"completer", []string{"keys", "resolve", "k", "--not-charged", "--reason=why"}, 2, "--unverified and --reason belong together"},
		"unverified without a charge":           {"completer", []string{"keys", "resolve", "k", "--charged=pi_1", "--unverified", "--reason=why"}, 2, "missing --charge ch_…"},
		"charge for Stripe's own word":          {"completer", []string{"keys", "resolve", "k", "--charged=pi_1", "--charge=ch_1"}, 2, "--charge belongs to"},
		"charge of nothing charged":             {"completer", []string{"keys", "resolve", "k", "--not-charged", "--unverified", "--reason=why", "--charge=ch_1"}, 2, "--charge belongs to"},
		"malformed charge":                      {"completer", []string{"keys", "resolve", "k", "--charged=pi_1", "--unverified", "--reason=why", "--charge=pi_1"}, 2, "--charge must be"},
		"retry of nothing":                      {"completer", []string{"keys", "retry"}, 2, "give a key, or --parked"},
		"retry of a key and of all":             {"completer", []string{"keys", "retry", "k", "--parked", "--reason=stripe_400"}, 2, "give a key, or --parked"},
		"retry of all that are parked":          {"completer", []string{"keys", "retry", "--parked"}, 2, "give both: --parked --reason REASON; `keys list --parked` shows the reasons"},
		"malformed payment intent":              {"completer", []string{"keys", "resolve", "k", "--charged=nonsense", "--database-url=postgres://127.0.0.1:1/none"}, 2, "--charged must be"},
		"unknown key":                           {"completer", []string{"keys", "show", "nobody's"}, 1, `there is no key "nobody's"`},
		"malformed e-mail address":              {"api", []string{"accounts", "create", "--email=x", "--stripe-customer=cus_x", "--payment-method=pm_x"}, 2, "--email"},
		"malformed customer":                    {"api", []string{"accounts", "create", "--email=a@b.c", "--stripe-customer=x", "--payment-method=pm_x"}, 2, "--stripe-customer"},
		"update of nothing":                     {"api", []string{"accounts", "update", "acct_1"}, 2, "give what to change"},
		"malformed new customer":                {"api", []string{"accounts", "update", "acct_1", "--stripe-customer=x"}, 2, "--stripe-customer"},
		"API key for an unknown account":        {"api", []string{"keys", "create", "--account=acct_none"}, 1, "there is no such account"},
		"API keys of an unknown account":        {"api", []string{"keys", "list", "--account=acct_none"}, 1, "there is no such account"},
		"revoking an unknown API key":           {"api", []string{"keys", "revoke", "key_none"}, 1, "there is no such active API key"},
		"database without our tables":           {"api", []string{"--database-url=" + strings.Replace(unmigrated.URL(), "/postgres?", "/template1?", 1)}, 1, "api migrate"},
		"api health without a port":             {"api", []string{"health", "--admin-listen=foo"}, 2, "--admin-listen needs HOST:PORT"},
		"completer health without a port":       {"completer", []string{"health", "--admin-listen=foo"}, 2, "--admin-listen needs HOST:PORT"},
		"health of a program that does not run": {"api", []string{"health", "--admin-listen=127.0.0.1:1"}, 1, "refused (is it running? --admin-listen names another address)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := s.run(t, test.program, test.args...)
			if code != test.code || !strings.Contains(stderr, test.says) || stdout != "" {
				t.Errorf("exit %d, want %d; stderr %q, stdout %q", code, test.code, stderr, stdout)
			}
			if strings.Contains(stderr, "secret@") || strings.Contains(stderr, "_x") {
				t.Errorf("stderr has a secret: %q", stderr)
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
				start, rest, _ := strings.Cut(stderr, "\n")
				if code != 1 || !strings.Contains(start, "starting") || !strings.Contains(rest, setting) || strings.Count(rest, "\n") != 1 {
					t.Errorf("%v: exit %d: %q", args, code, stderr)
				}
			}
		})
	}
}

func TestHelpNamesCommandsSettingsAndDefaults(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	settings := []string{"$DATABASE_URL", "$DATABASE_URL_FILE", "$LISTEN", "$ADMIN_LISTEN", "$STRIPE_API_KEY", "$STRIPE_API_KEY_FILE", "$STRIPE_URL", "$STRIPE_TIMEOUT", "$LEASE", "$PHASES", "$CHARGES", "$MAX_FARE", "$BACKOFF_INITIAL", "$BACKOFF_MAX", "$MAX_ATTEMPTS", "$SAVED_500_AFTER", "6s", "20s", "127.0.0.1:8080"}
	rounds := []string{"$POLL", "$RETENTION", "72h", "127.0.0.1:9091", "$SHUTDOWN_TIMEOUT", "25s"}
	for command, words := range map[string][]string{
		"api":                    append([]string{"serve", "migrate", "accounts create", "keys revoke", "health"}, settings...),
		"api serve":              settings,
		"completer":              append([]string{"run", "once", "keys list", "keys show", "keys retry", "keys park", "keys resolve", "health"}, rounds...),
		"completer run":          rounds,
		"completer once":         {"$POLL", "$RETENTION", "$SHUTDOWN_TIMEOUT"},
		"completer keys resolve": {"--charged", "--not-charged", "--account"},
		"completer audit":        {"48h", "30 days before that", "10m", "100", "refunds", "on unless --no-stripe"},
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

// What a command is for must not be looked for behind the settings that many
// commands have.
func TestHelpBeginsWithWhatIsTheCommandsOwn(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for command, last := range map[string]string{
		"api accounts create":    "The customer's payment method.",
		"api accounts update":    "The customer's payment method.",
		"api stripe-account":     "for --move",
		"completer keys resolve": "for the audit record.",
	} {
		parts := strings.Fields(command)
		own, _, found := strings.Cut(s.must(t, parts[0], append(parts[1:], "--help")...), "$DATABASE_URL")
		if !found || !strings.Contains(own, last) || strings.Contains(own, "$STRIPE_URL") && !strings.Contains(strings.Split(own, "$STRIPE_URL")[0], last) {
			t.Errorf("%s --help begins with\n%s", command, own)
		}
	}
}

func TestEveryProgramKnowsItsVersion(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, program := range []string{"api", "completer", "fakestripe"} {
		if got, want := s.must(t, program, "--version"), program+" "+cli.Version()+"\n"; got != want {
			t.Errorf("%s --version prints %q, want %q", program, got, want)
		}
	}
	for _, p := range []*process{s.start(t, "api"), s.start(t, "completer")} {
		if _, page := fetch(t, p.admin+"/metrics"); !strings.Contains(page, `rides_build_info{version="`+cli.Version()+`"} 1`) {
			t.Error("the metrics lack rides_build_info")
		}
	}
}

// The first line also names every setting that charges nobody, or not at
// Stripe. A metric says that charges are stopped.
func TestFirstLogLineSaysWhatIsUnusual(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, program := range []string{"api", "completer"} {
		p := s.start(t, program, "CHARGES=off")
		line, _, _ := strings.Cut(p.said(), "\n")
		if _, metrics := fetch(t, p.admin+"/metrics"); !strings.Contains(metrics, "\nrides_charges_off 1\n") {
			t.Errorf("%s has no metric for it", program)
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for name, want := range map[string]string{
			"msg": "starting", "version": cli.Version(), "charges": "off", "stripe_mode": "test", "stripe_url": s.stripeURL,
		} {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", program, name, got[name], want)
			}
		}
	}
}

func TestUsualSettingsAreNotNamed(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	flags := engineFlags{Charges: "on", stripeFlags: stripeFlags{StripeAPIKey: "sk_live_x", stripeCallFlags: stripeCallFlags{StripeURL: payments.StripeURL}}}
	flags.logStart(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
	if want := "msg=starting version=" + cli.Version() + "\n"; !strings.HasSuffix(log.String(), want) {
		t.Errorf("the first line is %q, want %q", log.String(), want)
	}
}

func TestAccountsAndAPIKeys(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if out := s.must(t, "api", "accounts", "list"); !strings.Contains(out, s.account) || strings.Contains(out, s.apiKey) {
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

// The variables that hold the secrets are empty, and files take their place.
func TestServersReadSecretsFromFiles(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	settings := []string{"DATABASE_URL=", "STRIPE_API_KEY="}
	for name, secret := range map[string]string{"DATABASE_URL_FILE": s.databaseURL, "STRIPE_API_KEY_FILE": "sk_test_scene"} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		settings = append(settings, name+"="+path)
	}
	s.start(t, "completer", settings...)
	if a := s.hail(s.start(t, "api", settings...), "k"); a.status != http.StatusCreated {
		t.Errorf("got %d %v", a.status, a.err)
	}
}

func TestAdminListeners(t *testing.T) {
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
		t.Errorf("the metrics lack the ride")
	} else if strings.Contains(page, "phases_parked_keys") {
		t.Error("api has a gauge of parked keys, which it never counts")
	}
	waitFor(t, "the completer has counted parked keys", 20*time.Second, func() bool {
		_, page := fetch(t, completer.admin+"/metrics")
		return strings.Contains(page, "\nphases_parked_keys 0\n")
	})
	if got := get(t, api.admin+"/debug/pprof/"); got != 200 {
		t.Errorf("with PPROF=true, pprof answers %d", got)
	}
	if got := get(t, completer.admin+"/debug/pprof/"); got != 404 {
		t.Errorf("without PPROF, pprof answers %d", got)
	}
	if got := get(t, api.api+"/metrics"); got != 404 {
		t.Errorf("metrics at the public address answer %d", got)
	}
	s.must(t, "api", "health", "--admin-listen="+strings.TrimPrefix(api.admin, "http://"))
	s.must(t, "completer", "health", "--admin-listen="+strings.TrimPrefix(completer.admin, "http://"))
	if said := api.said() + completer.said(); strings.Contains(said, s.apiKey) || strings.Contains(said, "sk_test_scene") {
		t.Error("a secret was logged")
	}
}

// net/http refuses long headers in plain text. Its limit is high enough that a
// key far beyond ours is still refused by a problem.
func TestVeryLongKeyIsRefusedByAProblem(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	got := s.hail(s.start(t, "api"), strings.Repeat("k", 20<<10))
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.status != http.StatusBadRequest || got.header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(got.body, `"code":"idempotency_key_invalid"`) {
		t.Errorf("got %d %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
}
