package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// A charge whose answer was lost is parked, looked at and resolved.
func TestOperatorResolvesAKey(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != 503 {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	if out := s.must(t, "completer", "keys", "list", "--unfinished"); !strings.Contains(out, "ride_created") || !strings.Contains(out, "due ") {
		t.Errorf("keys list: %s", out)
	}
	if out := s.must(t, "completer", "keys", "park", "k"); !strings.Contains(out, "is parked") {
		t.Errorf("keys park: %s", out)
	}
	if a := s.hail(api, "k"); a.status != 409 || !strings.Contains(a.body, "payment_under_review") {
		t.Errorf("a parked key gives %d %s", a.status, a.body)
	}
	var shown struct {
		ParkedReason string `json:"parked_reason"`
		ForeignForm  string `json:"foreign_form"`
	}
	if err := json.Unmarshal([]byte(s.must(t, "completer", "keys", "show", "k", "--json")), &shown); err != nil || shown.ParkedReason != "operator" || shown.ForeignForm == "" {
		t.Errorf("keys show: %+v %v", shown, err)
	}
	if code, _, stderr := s.run(t, "completer", "keys", "resolve", "k", "--not-charged"); code != 1 || !strings.Contains(stderr, "nothing was changed") || !strings.Contains(stderr, "pi_") {
		t.Errorf("resolving a charged key as not charged: exit %d: %s", code, stderr)
	}
	if code, _, stderr := s.run(t, "completer", "keys", "resolve", "k", "--charged=pi_nobodys"); code != 1 || !strings.Contains(stderr, "Stripe knows no payment intent pi_nobodys") {
		t.Errorf("resolving with an intent that Stripe doesn't have: exit %d: %s", code, stderr)
	}
	intent := s.fake.PaymentIntents()[0].ID
	if out := s.must(t, "completer", "keys", "resolve", "k", "--charged="+intent); !strings.Contains(out, "finished with 201") {
		t.Errorf("keys resolve: %s", out)
	}
	if a := s.hail(api, "k"); a.status != 201 || !strings.Contains(a.body, intent) {
		t.Errorf("the resolved key gives %d %s", a.status, a.body)
	}
	if n := number(t, s, `SELECT count(*) FROM audit_records WHERE action IN ('key.parked', 'key.resolved') AND data->>'by' = 'ann'`); n != 2 {
		t.Errorf("%d audit records, want 2", n)
	}
	for verb, done := range map[string]string{"retry": "retried", "park": "parked"} {
		want := "completer: k was not " + done + ", and nothing was changed: the key is finished already\n"
		if code, _, stderr := s.run(t, "completer", "keys", verb, "k"); code != 1 || stderr != want {
			t.Errorf("keys %s of a finished key: exit %d: %s", verb, code, stderr)
		}
	}
	s.checkCharges(t)
}

// A person's word ends a parked key also while Stripe can't be asked, and the
// audit record says that it was only that.
func TestOperatorResolvesWithoutStripe(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}, fakestripe.Fault{Kind: fakestripe.DropBefore})
	api := s.start(t, "api")
	for _, key := range []string{"charged", "not-charged"} {
		if a := s.hail(api, key); a.status != 503 {
			t.Fatalf("got %d %v", a.status, a.err)
		}
		s.must(t, "completer", "keys", "park", key)
	}
	intent := s.fake.PaymentIntents()[0]
	reachable := s.stripeURL
	s.stripeURL = "http://127.0.0.1:1"
	for key, decision := range map[string][]string{
		"charged":     {"--charged=" + intent.ID, "--charge=" + intent.ChargeID},
		"not-charged": {"--not-charged"},
	} {
		args := append([]string{"keys", "resolve", key}, decision[0])
		if code, _, stderr := s.run(t, "completer", args...); code != 1 || !strings.Contains(stderr, "nothing was changed") {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
		args = append([]string{"keys", "resolve", key, "--unverified", "--reason=Stripe closed the account"}, decision...)
		code, out, stderr := s.run(t, "completer", args...)
		if code != 0 || !strings.Contains(out, key+" of "+s.account+" is finished with ") {
			t.Errorf("%v: exit %d, prints %s%s", args, code, out, stderr)
		}
		// The first send to Stripe was a moment ago.
		if warned := strings.Contains(stderr, "s ago: a request still on its way may charge"); warned != (key == "not-charged") {
			t.Errorf("%v warns of a request that is on its way: %v: %s", args, warned, stderr)
		}
	}
	if a := s.hail(api, "charged"); a.status != 201 || !strings.Contains(a.body, intent.ID) || !strings.Contains(a.body, intent.ChargeID) {
		t.Errorf("charged: %d %s", a.status, a.body)
	}
	if a := s.hail(api, "not-charged"); a.status != 402 || !strings.Contains(a.body, "payment_failed") {
		t.Errorf("not-charged: %d %s", a.status, a.body)
	}
	for _, decision := range []string{"charged " + intent.ID + " " + intent.ChargeID, "not charged"} {
		if n := number(t, s, `SELECT count(*) FROM audit_records WHERE action = 'key.resolved' AND data->>'by' = 'ann' AND data->>'decision' = $1`,
			decision+", unverified: Stripe closed the account"); n != 1 {
			t.Errorf("%d records of %s", n, decision)
		}
	}
	s.stripeURL = reachable
	s.checkCharges(t)
	s.audit(t, 0)
}

func TestOperatorRetriesAllKeysOfAReason(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore, Times: 5})
	api := s.start(t, "api")
	for _, key := range []string{"a", "b", "c", "other", "unparked"} {
		if a := s.hail(api, key); a.status != 503 {
			t.Fatalf("got %d %v", a.status, a.err)
		}
	}
	s.exec(t, `UPDATE idempotency_keys SET parked_reason = CASE WHEN key = 'other' THEN 'stripe_500' ELSE 'stripe_400' END WHERE key <> 'unparked'`)
	if out := s.must(t, "completer", "keys", "list", "--parked", "--reason=stripe_400"); strings.Count(out, "\n") != 4 || strings.Contains(out, "other") {
		t.Errorf("keys list: %s", out)
	}
	for limit, hint := range map[string]string{"--limit=2": "… and there are more: --limit shows them\n", "--limit=3": ""} {
		args := []string{"keys", "list", "--reason=stripe_400", limit}
		if code, out, stderr := s.run(t, "completer", args...); code != 0 || "--limit="+strconv.Itoa(strings.Count(out, "\n")-1) != limit || stderr != hint {
			t.Errorf("%v: exit %d, prints %s%s, want the hint %q", args, code, out, stderr, hint)
		}
		if _, out, stderr := s.run(t, "completer", append(args, "--json")...); "--limit="+strconv.Itoa(strings.Count(out, `"key":`)) != limit || stderr != "" {
			t.Errorf("%v --json prints %s%s", args, out, stderr)
		}
	}
	if out := s.must(t, "completer", "keys", "retry", "--parked", "--reason=stripe_400"); !strings.HasPrefix(out, "3 keys are due") {
		t.Errorf("keys retry: %s", out)
	}
	if n := number(t, s, `SELECT count(*) FROM audit_records WHERE action = 'key.retried' AND data->>'was' = 'stripe_400'`); n != 3 {
		t.Errorf("%d audit records, want 3", n)
	}
	if out := s.must(t, "completer", "keys", "list", "--parked"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "other") {
		t.Errorf("keys list: %s", out)
	}
	if out := s.must(t, "completer", "keys", "retry", "--parked", "--reason=stripe_400"); out != "no key is parked for \"stripe_400\"\n" {
		t.Errorf("keys retry: %s", out)
	}
}

// However many keys are parked, and even if each is parked again at once, they
// are retried once.
func TestOperatorRetriesEachParkedKeyOnce(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "it has a trigger")
	const keys = 1100 // more than a list has by default
	s := newScene(t)
	s.exec(t, `
		INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path, request_hash,
		       canon_version, params, recovery_point, lease_epoch, attempts, parked_reason)
		SELECT $1, 'key_' || n, 'hail', 1, 'test', 'req', 'POST', '/v1/rides', '', 1, '', 'ride_created', 1, 1, 'stripe_400'
		FROM generate_series(1, $2) AS n`, s.account, keys)
	s.exec(t, `
		CREATE FUNCTION park_again() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
		  IF (SELECT count(*) FROM audit_records WHERE action = 'key.retried') < 3000 THEN
		    NEW.parked_reason := OLD.parked_reason;
		  END IF;
		  RETURN NEW;
		END $$`)
	s.exec(t, `CREATE TRIGGER park_again BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION park_again()`)
	if out := s.must(t, "completer", "keys", "retry", "--parked", "--reason=stripe_400"); !strings.HasPrefix(out, "1100 keys are due") {
		t.Errorf("keys retry: %s", out)
	}
	if n, different := number(t, s, `SELECT count(*) FROM audit_records`), number(t, s, `SELECT count(DISTINCT data ->> 'key') FROM audit_records`); n != keys || different != keys {
		t.Errorf("%d audit records of %d keys, want one of each of %d", n, different, keys)
	}
}

// A key is due when its lease has ended, and not before.
func TestRetryTellsWhenAKeyIsDue(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter})
	api := s.start(t, "api")
	if a := s.hail(api, "k"); a.status != 503 {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	s.must(t, "completer", "keys", "park", "k")
	s.exec(t, `UPDATE idempotency_keys SET leased_until = '2100-01-02T03:04:05Z'`)
	if code, _, stderr := s.run(t, "completer", "keys", "resolve", "k", "--not-charged"); code != 1 || !strings.Contains(stderr, "that is over at 2100-01-02T03:04:05Z") {
		t.Errorf("resolving a key with a lease: exit %d: %s", code, stderr)
	}
	if out := s.must(t, "completer", "keys", "retry", "k"); !strings.Contains(out, "due at 2100-01-02T03:04:05Z") {
		t.Errorf("a key with a lease: %s", out)
	}
	s.exec(t, `UPDATE idempotency_keys SET leased_until = now(), calling_until = now()`)
	if out := s.must(t, "completer", "keys", "retry", "k"); !strings.Contains(out, "is due now") {
		t.Errorf("a key without a lease: %s", out)
	}
}

// When the database was lost during a decision, the error doesn't claim that
// nothing was changed.
func TestNotDoneKnowsWhatIsUnclear(t *testing.T) {
	t.Parallel()
	for text, cause := range map[string]error{
		"unclear whether k was parked":              fmt.Errorf("committing: %w", phases.ErrUnavailable),
		"k was not parked, and nothing was changed": phases.ErrNotParked,
	} {
		if err := notDone(phases.Record{Key: "k"}, "parked", cause); !errors.Is(err, cause) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v becomes %v, want %q", cause, err, text)
		}
	}
}

// A flow with another call behind the decision has no answer yet.
func TestResolvedKeysThatGoOnHaveNoAnswer(t *testing.T) {
	t.Parallel()
	for want, result := range map[string]phases.Result{
		"finished with 201": {Answer: phases.Answer{Status: 201}},
		"resolved, and due now: the completer takes it next": {Pending: true},
	} {
		if got := whereResolved(result); got != want {
			t.Errorf("%+v is %q, want %q", result, got, want)
		}
	}
}

// Every time that a program may read has six digits after the second, whatever
// the time, so that the texts sort as the times do.
func TestTimesForProgramsHaveOneForm(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if a := s.hail(s.start(t, "api"), "k"); a.status != 201 {
		t.Fatalf("got %d %v", a.status, a.err)
	}
	for _, column := range []string{
		"idempotency_keys created_at", "idempotency_keys first_sent_at", "idempotency_keys run_after", "idempotency_keys finished_at",
		"accounts created_at", "accounts disabled_at", "api_keys created_at", "api_keys revoked_at", "stripe_accounts pinned_at",
	} {
		table, name, _ := strings.Cut(column, " ")
		s.exec(t, `UPDATE `+table+` SET `+name+` = '2026-01-02T03:04:05Z'`)
	}
	times := regexp.MustCompile(`"2026-01-02T03:04:05[^"]*"`)
	for command, want := range map[string]int{
		"completer keys list --json": 4, "completer keys show k --json": 4, "completer keys show k": 4,
		"api accounts list --json": 2, "api keys list --json --account=" + s.account: 2, "api stripe-account --json": 1,
	} {
		args := strings.Fields(command)
		out := s.must(t, args[0], args[1:]...)
		found := times.FindAllString(out, -1)
		if len(found) != want {
			t.Errorf("%s shows %d times, want %d: %s", command, len(found), want, out)
		}
		for _, shown := range found {
			if shown != `"2026-01-02T03:04:05.000000Z"` {
				t.Errorf("%s shows %s", command, shown)
			}
		}
	}
}
