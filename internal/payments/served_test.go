package payments

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A servedCase is one answer, or one broken connection, that a real server
// gives to stripe-go, and the result that must follow.
type servedCase struct {
	name string   // a sentence
	row  string   // the row, as call/row, that the case is about
	also []string // the other rows that must judge as well

	answers map[string][]http.HandlerFunc // by route
	change  func(*Config)
	before  func(t *testing.T, s *Stripe)
	sent    func(*phases.Sent[ChargeForm]) // changes what is sent
	find    bool                           // FindCharge instead of Charge

	refund     bool // Refund and FindRefund instead of Charge and FindCharge
	sentRefund func(*phases.Sent[RefundForm])

	// The result is want or given (without its Detail) if that has a status,
	// ErrNothingFound if none is set, else a call error.
	want     Charge
	given    Refund
	none     bool
	class    phases.Class
	backoff  phases.Backoff
	reason   string
	patience time.Duration
	counts   bool
}

func TestResultOfEachServedAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range servedCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// Each row is met at least once through the real client.
func TestEveryRowHasAServedCase(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for _, c := range servedCases() {
		for _, row := range append([]string{c.row}, c.also...) {
			served[row] = true
		}
	}
	for name := range servedDisputes() {
		served["disputes/"+name] = true
	}
	for _, c := range servedEvents() {
		served["event/"+c.row] = true
	}
	for call, table := range resultTables {
		for _, row := range table {
			if name := call + "/" + row.name; !served[name] {
				t.Errorf("row %s has no served case", name)
			}
		}
	}
	for name := range served {
		call, row, _ := strings.Cut(name, "/")
		if !slices.ContainsFunc(resultTables[call], func(r resultRow) bool { return r.name == row }) {
			t.Errorf("there is a served case for %s, but no such row", name)
		}
	}
}

func (c servedCase) run(t *testing.T) {
	t.Helper()
	server := newStripeServer(t, c.answers)
	client, registry := server.client(t, c.change)
	if c.before != nil {
		c.before(t, client)
	}
	if c.refund {
		c.runRefund(t, client)
	} else {
		c.runCharge(t, client)
	}
	rows := judgments(t, registry)
	want := append([]string{c.row}, c.also...)
	for _, row := range want {
		if !strings.Contains(strings.Join(rows, " ")+" ", row+" ") {
			t.Errorf("judged by %v, want %v", rows, want)
		}
	}
	if len(rows) != len(want) {
		t.Errorf("judged by %v, want %v", rows, want)
	}
}

func (c servedCase) runCharge(t *testing.T, client *Stripe) {
	t.Helper()
	sent := firstSend()
	if c.sent != nil {
		c.sent(&sent)
	}
	method := client.Charge
	if c.find {
		method = func(ctx context.Context, sent phases.Sent[ChargeForm]) (Charge, error) {
			return client.FindCharge(ctx, sent, customers())
		}
	}
	charge, err := method(t.Context(), sent)
	wantNoSecrets(t, charge.Detail)
	if c.want.Status == "" {
		c.checkError(t, charge, err)
		return
	}
	if err != nil {
		t.Fatalf("got the error %v, want %+v", err, c.want)
	}
	charge.Detail = ""
	wantEqual(t, "charge", c.want, charge)
}

func (c servedCase) runRefund(t *testing.T, client *Stripe) {
	t.Helper()
	sent := firstRefund()
	if c.sentRefund != nil {
		c.sentRefund(&sent)
	}
	method := client.Refund
	if c.find {
		method = client.FindRefund
	}
	refund, err := method(t.Context(), sent, testPaid())
	wantNoSecrets(t, refund.Detail)
	if c.given.Result == "" {
		c.checkError(t, refund, err)
		return
	}
	if err != nil {
		t.Fatalf("got the error %v, want %+v", err, c.given)
	}
	refund.Detail = ""
	wantEqual(t, "refund", c.given, refund)
}

// checkError checks the error of a call that brought no result.
func (c servedCase) checkError(t *testing.T, got any, err error) {
	t.Helper()
	if c.none {
		if !errors.Is(err, phases.ErrNothingFound) {
			t.Errorf("got %+v, %v, want nothing found", got, err)
		}
		return
	}
	var failed *phases.CallError
	if !errors.As(err, &failed) {
		t.Fatalf("got %+v, %v, want a call error", got, err)
	}
	wantNoSecrets(t, err.Error())
	wantEqual(t, "class", c.class.String(), failed.Class.String())
	wantEqual(t, "back-off", c.backoff, failed.Backoff)
	wantEqual(t, "reason", c.reason, failed.Reason)
	wantEqual(t, "counts", c.counts, failed.Counts)
	wantEqual(t, "patience", c.patience, failed.Patience)
}

func servedCases() []servedCase {
	var all []servedCase
	for _, group := range [][]servedCase{
		servedWire(), servedCreated(), servedDeclines(), servedRefusals(), servedBadRequests(), servedPayers(), servedBusy(),
		servedReads(), servedLists(), servedCancels(),
		servedRefunds(), servedRefundRefusals(), servedRefundLists(),
	} {
		all = append(all, group...)
	}
	return all
}

// chargeOnly returns the handlers of a server that only answers charges.
func chargeOnly(handlers ...http.HandlerFunc) map[string][]http.HandlerFunc {
	return map[string][]http.HandlerFunc{routeCreate: handlers}
}

// chargeThenRead returns the handlers of a server that answers a charge, and
// the read of its intent.
func chargeThenRead(charge, read http.HandlerFunc) map[string][]http.HandlerFunc {
	return map[string][]http.HandlerFunc{routeCreate: {charge}, routeRead: {read}}
}

// withAccount adds what the server answers about the account of the API key.
func withAccount(answers map[string][]http.HandlerFunc, account http.HandlerFunc) map[string][]http.HandlerFunc {
	answers[routeAccount] = []http.HandlerFunc{account}
	return answers
}

// patientTimeout is long enough for a loaded machine to connect and to send the
// request. A time-out before that would prove that nothing was sent.
func patientTimeout(c *Config) { c.Timeout = 3 * time.Second }

func laterSend(s *phases.Sent[ChargeForm]) { s.First = false }
