package commands

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// otherAccount is a setting with a key of the fake's other account, which has no
// customers.
const otherAccount = "STRIPE_API_KEY=sk_test_other"

// stripeAccounts returns what `api stripe-account` shows.
func (s *scene) stripeAccounts(t *testing.T, flags ...string) []payments.StripeAccount {
	t.Helper()
	var found []payments.StripeAccount
	out := s.must(t, "api", append([]string{"stripe-account", "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return found
}

// outage makes Stripe's account be unknown until it is ended.
func (s *scene) outage(t *testing.T) (end func()) {
	t.Helper()
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: "*", Path: "/v1/account"}, Times: -1})
	return func() { s.send(t, http.MethodDelete, "/_fake/faults", "") }
}

func TestFirstKeyOfStripePinsItsAccount(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if got := s.stripeAccounts(t); len(got) != 0 {
		t.Errorf("before the first start there is %+v", got)
	}
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != http.StatusCreated {
		t.Fatalf("got %d %s %v", a.status, a.body, a.err)
	}
	got := s.stripeAccounts(t)
	if len(got) != 1 || got[0].ID != "acct_fake" || got[0].Livemode || got[0].Realm != "test" || got[0].LeftAt != nil {
		t.Errorf("after it there is %+v", got)
	}
	if realm := text(t, s, `SELECT realm FROM idempotency_keys`); realm != "test" {
		t.Errorf("the key's realm is %q", realm)
	}
}

// A key of another Stripe account sends nothing, claims nothing and decides
// nothing. Answers that are stored are still given.
func TestKeyOfAnotherStripeAccountIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	api := s.start(t, "api")
	if a := s.hail(api, "paid"); a.status != http.StatusCreated {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}, fakestripe.Fault{Kind: fakestripe.DropAfter})
	for _, key := range []string{"lost", "parked"} {
		if a := s.hail(api, key); a.status != http.StatusServiceUnavailable {
			t.Fatalf("got %d %v", a.status, a.err)
		}
	}
	s.must(t, "completer", "keys", "park", "parked")
	api.kill(t)
	s.exec(t, `UPDATE idempotency_keys SET leased_until = now(), run_after = now()`)
	sends := len(s.fake.Ledger())

	api, completer := s.start(t, "api", otherAccount), s.start(t, "completer", otherAccount)
	if a := s.hail(api, "paid"); a.status != http.StatusCreated || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a replay got %d %s", a.status, a.body)
	}
	for _, key := range []string{"lost", "new"} {
		if a := s.hail(api, key); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s got %d %s", key, a.status, a.body)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys`); n != 3 {
		t.Errorf("there are %d keys, want the 3 of before", n)
	}
	for _, p := range []*process{api, completer} {
		if _, page := fetch(t, p.admin+"/metrics"); !strings.Contains(page, "\nrides_stripe_key_refused 1\n") {
			t.Error("rides_stripe_key_refused is not 1")
		}
		if n := strings.Count(p.said(), "it is of acct_other, and the charges of this database go to acct_fake"); n != 1 {
			t.Errorf("the reason is logged %d times: %s", n, p.said())
		}
	}
	for _, args := range [][]string{{"once"}, {"keys", "resolve", "parked", "--not-charged"}, {"audit"}} {
		code, _, stderr := s.run(t, "completer", append(args, "--stripe-api-key=sk_test_other")...)
		if code != 1 || !strings.Contains(stderr, "api stripe-account --move") {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	for _, send := range s.fake.Ledger()[sends:] {
		if send.Path != "/v1/account" {
			t.Errorf("%s %s was sent", send.Method, send.Path)
		}
	}
	if out := s.must(t, "completer", "keys", "resolve", "parked", "--not-charged", "--unverified", "--reason=a test", "--stripe-api-key=sk_test_other"); !strings.Contains(out, "finished with 402") {
		t.Errorf("resolving without Stripe: %s", out)
	}
	s.start(t, "completer") // with the right key
	s.waitForCharge(t, "lost", 20*time.Second)
}

func TestMoveToAnotherStripeAccount(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.databaseURL = pgtest.InMode(t, s.databaseURL, "exec") // as for a pooler
	api := s.start(t, "api")
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	if a := s.hail(api, "k"); a.status != http.StatusServiceUnavailable {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	code, _, stderr := s.run(t, "api", "stripe-account", "--move", "--stripe-api-key=sk_test_other")
	if code != 1 || !strings.Contains(stderr, "keys without an answer: 1") {
		t.Errorf("with an unfinished key: exit %d, %s", code, stderr)
	}
	if a := s.hail(api, "k"); a.status != http.StatusCreated {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	api.kill(t)

	moved := s.stripeAccounts(t, "--move", "--stripe-api-key=sk_test_other", "--by=bea")
	if len(moved) != 2 || moved[0].ID != "acct_fake" || moved[0].LeftAt == nil || moved[1].Realm != "test/acct_other" || moved[1].LeftAt != nil {
		t.Errorf("after the move there is %+v", moved)
	}
	if n := number(t, s, `SELECT count(*) FROM audit_records WHERE action = 'stripe_account.moved' AND data @> '{"by":"bea","from":"acct_fake","to":"acct_other"}'`); n != 1 {
		t.Errorf("%d records of the move", n)
	}
	api = s.start(t, "api", otherAccount)
	if a := s.hail(api, "other"); a.status == http.StatusCreated {
		t.Errorf("an account without customers charges: %s", a.body)
	}
	if realm := text(t, s, `SELECT realm FROM idempotency_keys WHERE key = 'other'`); realm != "test/acct_other" {
		t.Errorf("the realm of a new key is %q", realm)
	}
	api.kill(t)
	s.exec(t, `DELETE FROM idempotency_keys WHERE key = 'other'`)
	s.exec(t, `DELETE FROM rides WHERE key = 'other'`)
	back := s.stripeAccounts(t, "--move")
	if len(back) != 2 || back[0].LeftAt == nil || back[1].ID != "acct_fake" || back[1].Realm != "test" || back[1].LeftAt != nil {
		t.Errorf("after the move back there is %+v", back)
	}
	if a := s.hail(s.start(t, "api"), "k"); a.status != http.StatusCreated || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a replay got %d %s", a.status, a.body)
	}
}

// While Stripe does not say whose the key is, rides wait for the account on
// record, and nothing is sent.
func TestRidesWaitForTheStripeAccountOnRecord(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.start(t, "api").kill(t)
	end := s.outage(t)
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "payment_processor_unavailable") {
		t.Errorf("got %d %s %v", a.status, a.body, a.err)
	}
	for _, send := range s.fake.Ledger() {
		if send.Path != "/v1/account" {
			t.Errorf("%s %s was sent", send.Method, send.Path)
		}
	}
	end()
	s.start(t, "completer")
	s.waitForCharge(t, "k", 20*time.Second)
}

func TestNothingIsClaimedForAnUnknownStripeAccount(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	end := s.outage(t)
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s %v", a.status, a.body, a.err)
	}
	if n := number(t, s, `SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys were claimed", n)
	}
	end()
	waitFor(t, "the account is known", 20*time.Second, func() bool { return s.hail(api, "k").status == http.StatusCreated })
}

// What the present account still has to do could only be taken for done at
// another one: a declined payment would seem to be gone, and stay open (I3).
func TestMoveLeavesNothingUnfinished(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.must(t, "api", "stripe-account", "--move") // pins the account of its key
	for counted, rows := range map[string]struct{ insert, end string }{
		"keys without an answer: 1, declined payments that are still open: 0, events of Stripe's: 0": {
			`INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
			        canon_version, params, recovery_point, lease_epoch, attempts, parked_reason)
			 SELECT 'acct_1', 'key_' || realm, 'hail', 1, realm, 'req', 'POST', '/v1/rides', '', 1, '', 'ride_created', 1, 1, 'operator'
			 FROM unnest(ARRAY['test', 'live']) AS realm`,
			`DELETE FROM idempotency_keys WHERE realm = 'test'`,
		},
		"keys without an answer: 0, declined payments that are still open: 1, events of Stripe's: 0": {
			`INSERT INTO open_intents (account_id, intent_id, ride_id, operation, livemode)
			 VALUES ('acct_1', 'pi_1', 'ride_1', 'op_1', false), ('acct_1', 'pi_2', 'ride_2', 'op_2', true)`,
			`DELETE FROM open_intents WHERE NOT livemode`,
		},
		"keys without an answer: 0, declined payments that are still open: 0, events of Stripe's: 1": {
			`INSERT INTO stripe_events (id, type, object, object_id, livemode)
			 VALUES ('evt_1', 'charge.refunded', 'charge', 'ch_1', false), ('evt_2', 'charge.refunded', 'charge', 'ch_2', true)`,
			`UPDATE stripe_events SET worked_at = now(), outcome = 'done' WHERE NOT livemode`,
		},
	} {
		s.exec(t, rows.insert)
		code, _, stderr := s.run(t, "api", "stripe-account", "--move", "--stripe-api-key=sk_test_other")
		if code != 1 || !strings.Contains(stderr, counted) {
			t.Errorf("exit %d, %s; want to be told: %s", code, stderr, counted)
		}
		s.exec(t, rows.end)
	}
	code, _, stderr := s.run(t, "api", "stripe-account", "--move", "--stripe-api-key=sk_test_other")
	if moved := s.stripeAccounts(t); code != 0 || len(moved) != 2 || !strings.Contains(stderr, "still runs with a key of the former account charges that one") {
		t.Errorf("after the move there is %+v; exit %d, %s", moved, code, stderr)
	}
}
