package commands

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/accounts"
)

// listed returns the scene's account as `accounts list` shows it.
func (s *scene) listed(t *testing.T) accounts.Account {
	t.Helper()
	var all []accounts.Account
	if err := json.Unmarshal([]byte(s.must(t, "api", "accounts", "list", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(a accounts.Account) bool { return a.ID == s.account })
	if i < 0 {
		t.Fatalf("%s is not in %v", s.account, all)
	}
	return all[i]
}

func TestUpdateChangesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.listed(t)
	if len(before.FormerCustomers) != 0 || before.DisabledAt != nil {
		t.Errorf("a new account is %+v", before)
	}
	s.must(t, "api", "accounts", "update", s.account, "--email=bea@example.com")
	want := before
	want.Email = "bea@example.com"
	checkAccountIs(t, s.listed(t), want)
	s.must(t, "api", "accounts", "update", s.account, "--stripe-customer=cus_second", "--payment-method=pm_second")
	want.StripeCustomer, want.PaymentMethod, want.FormerCustomers = "cus_second", "pm_second", []string{"cus_visa"}
	checkAccountIs(t, s.listed(t), want)
}

// Every customer that an account ever had stays known, each once, whatever the
// order of the changes.
func TestUpdateKeepsFormerCustomers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, test := range []struct {
		customer string
		former   []string
	}{
		{"cus_visa", []string{}}, // nothing changes
		{"cus_second", []string{"cus_visa"}},
		{"cus_declined", []string{"cus_visa", "cus_second"}},
		{"cus_visa", []string{"cus_second", "cus_declined"}},
		{"cus_second", []string{"cus_declined", "cus_visa"}},
	} {
		s.must(t, "api", "accounts", "update", s.account, "--stripe-customer="+test.customer)
		if got := s.listed(t); got.StripeCustomer != test.customer || !slices.Equal(got.FormerCustomers, test.former) {
			t.Errorf("the customer is %s, the former ones are %q, want %s and %q", got.StripeCustomer, got.FormerCustomers, test.customer, test.former)
		}
	}
}

// An account that nobody can charge is refused when it is made or changed, and
// not when its first ride is hailed.
func TestAccountsAreComparedWithStripe(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if err := s.fake.DeleteCustomer("cus_declined"); err != nil {
		t.Fatal(err)
	}
	s.start(t, "api").kill(t) // pins the Stripe account
	before := s.listed(t)
	for name, test := range map[string]struct {
		customer, method string
		flags            []string
		says             string
	}{
		"no such customer":             {"cus_nope", "pm_card_visa", nil, "Stripe has no customer cus_nope"},
		"a deleted customer":           {"cus_declined", "pm_card_visa", nil, "Stripe has no customer cus_declined"},
		"no such payment method":       {"cus_visa", "pm_nope", nil, "Stripe has no payment method pm_nope of cus_visa"},
		"another customer's":           {"cus_visa", "pm_second", nil, "Stripe has no payment method pm_second of cus_visa"},
		"Stripe out of reach":          {"cus_visa", "pm_visa", []string{"--stripe-url=http://127.0.0.1:1"}, "--unverified asks nothing"},
		"a key of another account":     {"cus_visa", "pm_visa", []string{"--stripe-api-key=sk_test_other"}, "api stripe-account --move"},
		"the customer's":               {"cus_second", "pm_second", nil, ""},
		"a test token":                 {"cus_second", "pm_card_visa", nil, ""},
		"nobody's, which nobody asked": {"cus_nope", "pm_nope", []string{"--unverified", "--stripe-url=http://127.0.0.1:1"}, ""},
	} {
		flags := append([]string{"--stripe-customer=" + test.customer, "--payment-method=" + test.method}, test.flags...)
		for _, args := range [][]string{{"accounts", "create", "--email=a@example.com"}, {"accounts", "update", s.account}} {
			code, _, stderr := s.run(t, "api", append(args, flags...)...)
			refused := code == 1 && strings.Contains(stderr, test.says) && strings.Count(stderr, "\n") == 1
			if test.says == "" && code != 0 || test.says != "" && !refused {
				t.Errorf("%s: %v: exit %d, %q, want %q", name, args, code, stderr, test.says)
			}
		}
		if test.says != "" {
			checkAccountIs(t, s.listed(t), before)
		}
		s.exec(t, `UPDATE accounts SET stripe_customer = 'cus_visa', payment_method = 'pm_card_visa', former_customers = '{}'`)
	}
}

func TestUpdateNeedsAKeyOfTheAccountsMode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	code, _, stderr := s.run(t, "api", "accounts", "update", s.account, "--stripe-customer=cus_second",
		"--stripe-api-key=sk_live_x", "--stripe-url=https://api.stripe.com")
	if code != 1 || !strings.Contains(stderr, "it is a test account, and the Stripe key is a live key") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	s.must(t, "api", "accounts", "update", s.account, "--email=bea@example.com", "--stripe-api-key=")
	if code, _, stderr := s.run(t, "api", "accounts", "update", s.account, "--stripe-customer=cus_second", "--stripe-api-key="); code != 2 || !strings.Contains(stderr, "missing --stripe-api-key") {
		t.Errorf("without a key: exit %d, %q", code, stderr)
	}
}

func TestUpdateOfAChangedAccountIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	store, seen := accounts.Store{Pool: s.pool}, s.listed(t)
	for _, column := range []string{"email", "stripe_customer", "payment_method"} {
		s.exec(t, `UPDATE accounts SET `+column+` = 'other'`)
		if err := store.Update(t.Context(), seen, seen); err != accounts.ErrChanged { //nolint:errorlint // it is returned as it is
			t.Errorf("with another %s: %v", column, err)
		}
		s.exec(t, `UPDATE accounts SET email = $1, stripe_customer = $2, payment_method = $3`, seen.Email, seen.StripeCustomer, seen.PaymentMethod)
	}
}

func TestDisabledAccountStaysListed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for range 2 { // the second one changes nothing
		if out := s.must(t, "api", "accounts", "disable", s.account); !strings.Contains(out, s.account+" is disabled") {
			t.Errorf("disable prints %q", out)
		}
	}
	disabled := s.listed(t).DisabledAt
	if disabled == nil || !strings.Contains(s.must(t, "api", "accounts", "list"), timestamp(*disabled)) {
		t.Errorf("the list does not show when it was disabled: %v", disabled)
	}
	for range 2 {
		s.must(t, "api", "accounts", "enable", s.account)
	}
	if got := s.listed(t); got.DisabledAt != nil {
		t.Errorf("an enabled account is %+v", got)
	}
}

func TestUnknownAccountsCannotBeChanged(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, args := range [][]string{{"update", "acct_none", "--email=a@example.com"}, {"disable", "acct_none"}, {"enable", "acct_none"}} {
		code, _, stderr := s.run(t, "api", append([]string{"accounts"}, args...)...)
		if code != 1 || stderr != "api: acct_none: there is no such account\n" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}

func checkAccountIs(t *testing.T, got, want accounts.Account) {
	t.Helper()
	encoded := func(a accounts.Account) string {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if encoded(got) != encoded(want) {
		t.Errorf("the account is\n%s, want\n%s", encoded(got), encoded(want))
	}
}
