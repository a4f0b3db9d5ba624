package commands

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

// outOfReach is an address at which no Stripe is.
const outOfReach = "http://127.0.0.1:1"

// An exit is a command by which an operator may end a parked key.
type exit struct {
	name string
	args func(key, intent, charge string) []string
	// trusts means that the operator's word is believed without Stripe's.
	trusts bool
}

func exits() []exit {
	resolve := func(key string, flags ...string) []string { return append([]string{"keys", "resolve", key}, flags...) }
	const unverified, why = "--unverified", "--reason=Stripe can't be asked"
	return []exit{
		{"retry", func(key, _, _ string) []string { return []string{"keys", "retry", key} }, false},
		{"charged", func(key, intent, _ string) []string { return resolve(key, "--charged="+intent) }, false},
		{"not charged", func(key, _, _ string) []string { return resolve(key, "--not-charged") }, false},
		{"charged, unverified", func(key, intent, charge string) []string {
			return resolve(key, "--charged="+intent, "--charge="+charge, unverified, why)
		}, true},
		{"not charged, unverified", func(key, _, _ string) []string { return resolve(key, "--not-charged", unverified, why) }, true},
		{"park", func(key, _, _ string) []string { return []string{"keys", "park", key} }, false},
	}
}

// TestEveryParkedKeyHasAnExit tries each exit on a key of each reason that the
// code parks keys for, with Stripe and without it, and prints what came of it.
// At least one exit must bring the key to its end, and none that asks Stripe may
// contradict it (I1, I3, I4).
func TestEveryParkedKeyHasAnExit(t *testing.T) {
	t.Parallel()
	all := situations()
	covered := map[string]bool{"refund_refused": true} // in rides, where a late refund is tested
	for _, s := range all {
		covered[s.reason] = true
	}
	if diff := cmp.Diff(parkReasons(t), slices.Sorted(maps.Keys(covered))); diff != "" {
		t.Errorf("the reasons in the code and those of this test differ (-code +test):\n%s", diff)
	}
	results := make([][2][]string, len(all))
	for i, s := range all {
		t.Run(s.reason+", "+s.story, func(t *testing.T) {
			t.Parallel()
			results[i] = s.try(t)
			for world, want := range []string{s.asked, s.deaf} {
				got := strings.Join(results[i][world], " ")
				if got != want {
					t.Errorf("Stripe out of reach %t: got %q, want %q", world == 1, got, want)
				}
				if !strings.Contains(got, "201") && !strings.Contains(got, "402") {
					t.Errorf("Stripe out of reach %t: no exit ends the key", world == 1)
				}
			}
		})
	}
	t.Cleanup(func() { t.Log("\n" + exitTable(all, results)) }) // when all have ended
}

// exitTable lays out the results for people.
func exitTable(all []situation, results [][2][]string) string {
	heading := []string{"PARKED FOR", "BECAUSE", "STRIPE"}
	for _, e := range exits() {
		heading = append(heading, strings.ToUpper(e.name))
	}
	var lines []string
	for i, s := range all {
		for world, name := range []string{"answers", "out of reach"} {
			lines = append(lines, strings.Join(append([]string{s.reason, s.story, name}, results[i][world]...), "\t"))
		}
	}
	return table(strings.Join(heading, "\t"), lines, func(line string) string { return line })
}

// A desk is an api in this process, and an operator.
type desk struct {
	*scene
	api *process
}

func newDesk(t *testing.T, s situation) *desk {
	t.Helper()
	d := &desk{scene: newScene(t)}
	if s.customer != "" {
		d.exec(t, `UPDATE accounts SET stripe_customer = $1`, s.customer)
	}
	if s.method != "" {
		d.exec(t, `UPDATE accounts SET payment_method = $1`, s.method)
	}
	flags := engineFlags{
		databaseFlags: databaseFlags{DatabaseURL: d.databaseURL},
		stripeFlags: stripeFlags{StripeAPIKey: "sk_test_scene", stripeCallFlags: stripeCallFlags{
			StripeURL: d.stripeURL, StripeTimeout: 10 * time.Second, Saved500After: time.Hour,
		}},
		Lease: 20 * time.Second, Phases: s.phases, BackoffInitial: time.Second, BackoffMax: time.Minute,
		MaxAttempts: 1, MaxRides: 10, MaxPerAccount: 10, Connections: 4,
	}
	log := slog.New(slog.DiscardHandler)
	parts, err := flags.open(t.Context(), "api", log, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(parts.pool.Close)
	if err := parts.pin.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	service := rides.NewService(rides.Config{Pool: parts.pool, Engine: parts.engine, Stripe: parts.stripe, MaxFare: 50_000, Logger: log})
	server := httptest.NewServer(service.Handler())
	t.Cleanup(server.Close)
	d.api = &process{api: server.URL}
	return d
}

// hails asks for the ride of a key, once for each answer that must come.
func (d *desk) hails(t *testing.T, key string, statuses ...int) {
	t.Helper()
	for i, want := range statuses {
		if a := d.hail(d.api, key); a.status != want {
			t.Fatalf("request %d of %s got %d %s %v, want %d", i+1, key, a.status, a.body, a.err, want)
		}
	}
}

// fault has Stripe fail for a key's charge, and for no other.
func (d *desk) fault(key string, f fakestripe.Fault) {
	f.Match = fakestripe.Match{Path: "/v1/payment_intents", Key: d.operation(key)}
	d.fake.Script(f)
}

// operation returns the idempotency key of a key's charge at Stripe.
func (d *desk) operation(key string) string {
	return phases.ForeignKey("hail", "charge_created", d.account, key)
}

// operate runs a command of completer in this process.
func (d *desk) operate(t *testing.T, stripeURL string, args ...string) (code int, said string) {
	t.Helper()
	args = append(args, "--database-url="+d.databaseURL)
	if args[0] == "once" || args[1] == "resolve" {
		args = append(args, "--stripe-url="+stripeURL, "--stripe-api-key=sk_test_scene", "--max-attempts=1", "--database-connections=2")
	}
	var out bytes.Buffer
	code = Completer(t.Context(), args, &out, &out)
	return code, out.String()
}

// complete has a completer work on one key, which is made due.
func (d *desk) complete(t *testing.T, stripeURL, key string) {
	t.Helper()
	d.exec(t, `UPDATE idempotency_keys SET run_after = now() - interval '1 second' WHERE key = $1`, key)
	if code, said := d.operate(t, stripeURL, "once"); code != 0 {
		t.Fatalf("completer once: exit %d: %s", code, said)
	}
}

// charged returns the payment intent of a key's charge, and whether it holds
// money that was not given back, or is disputed, so that nobody can say that it
// holds none. If there is no intent, it returns what a person would name.
func (d *desk) charged(key string) (intent, charge string, money bool) {
	intent, charge = "pi_told"+key, "ch_told"+key
	for _, found := range d.fake.PaymentIntents() {
		if found.Metadata["operation"] == d.operation(key) {
			intent, charge = found.ID, found.ChargeID
			money = money || found.Status == "succeeded" && (found.Refunded < found.Amount || found.Disputed)
		}
	}
	return intent, charge, money
}

// try parks a key for each exit, and returns what each exit does, first with
// Stripe and then without it.
func (s situation) try(t *testing.T) (results [2][]string) {
	t.Helper()
	d := newDesk(t, s)
	for world, stripeURL := range []string{d.stripeURL, outOfReach} {
		for i, e := range exits() {
			key := fmt.Sprintf("k%d%d", world, i)
			s.park(t, d, key)
			if got := text(t, d.scene, `SELECT coalesce(parked_reason, 'not') FROM idempotency_keys WHERE key = $1`, key); got != s.reason {
				t.Fatalf("%s is parked for %q, want %q", key, got, s.reason)
			}
			results[world] = append(results[world], d.leave(t, e, stripeURL, key))
		}
	}
	return results
}

// leave tries an exit on a parked key. It returns the status of the answer that
// the key has then, or "refused", "parked" or "waits".
func (d *desk) leave(t *testing.T, e exit, stripeURL, key string) string {
	t.Helper()
	intent, charge, _ := d.charged(key)
	code, said := d.operate(t, stripeURL, e.args(key, intent, charge)...)
	if code == 0 && e.name == "retry" {
		d.complete(t, stripeURL, key)
	}
	var status *int
	var parked bool
	if err := d.pool.QueryRow(t.Context(), `SELECT response_status, parked_reason IS NOT NULL FROM idempotency_keys WHERE key = $1`, key).Scan(&status, &parked); err != nil {
		t.Fatal(err)
	}
	_, _, money := d.charged(key)
	switch {
	case code == 2:
		t.Errorf("%s of %s is wrong usage: %s", e.name, key, said)
	case code == 1 && (!parked || strings.Count(said, "\n") != 1):
		t.Errorf("%s of %s was refused, and the key is parked %t: %s", e.name, key, parked, said)
	case status != nil && !e.trusts && money != (*status == http.StatusCreated):
		t.Errorf("%s of %s ends with %d, and Stripe holds money %t", e.name, key, *status, money)
	}
	switch {
	case status != nil:
		return strconv.Itoa(*status)
	case code != 0:
		return "refused"
	case parked:
		return "parked"
	default:
		return "waits"
	}
}
