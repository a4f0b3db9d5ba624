package payments

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A servedCase is one answer, or one cut connection, served to stripe-go, and
// what must come of it.
type servedCase struct {
	name string // a sentence
	row  string // call/row that must judge, besides those in also
	also []string

	plays  map[string][]http.HandlerFunc
	change func(*Config)
	before func(t *testing.T, s *Stripe)
	sent   func(*phases.Sent[ChargeForm])
	find   bool // FindCharge instead of Charge

	want   Charge // compared but for Detail, where status is set
	class  phases.Class
	wait   phases.Backoff
	reason string
	after  time.Duration
	none   bool // ErrNothingFound
}

func TestStripeRowsAsServed(t *testing.T) {
	t.Parallel()
	for _, c := range servedCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// A row that no server ever served is a guess.
func TestStripeEveryRowHasAServedCase(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for _, c := range servedCases() {
		served[c.row] = true
	}
	for call, table := range stripeTables() {
		for _, row := range table {
			if name := call + "/" + row.name; !served[name] {
				t.Errorf("row %s has no served case", name)
			}
			delete(served, call+"/"+row.name)
		}
	}
	for name := range served {
		t.Errorf("there is a served case for %s, which is no row", name)
	}
}

func stripeTables() map[string][]resultRow {
	return map[string][]resultRow{
		callCharge: sendRows(), callRead: readRows(), callList: listRows(), callCancel: cancelRows(),
	}
}

func (c servedCase) run(t *testing.T) {
	t.Helper()
	stage := newStage(t, c.plays)
	client, registry := stage.client(t, c.change)
	if c.before != nil {
		c.before(t, client)
	}
	sent := stageSent()
	if c.sent != nil {
		c.sent(&sent)
	}
	method := client.Charge
	if c.find {
		method = client.FindCharge
	}
	charge, err := method(t.Context(), sent)
	c.check(t, charge, err)
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

func (c servedCase) check(t *testing.T, charge Charge, err error) {
	t.Helper()
	wantNoSecrets(t, charge.Detail)
	switch {
	case c.none:
		if !errors.Is(err, phases.ErrNothingFound) {
			t.Errorf("got %+v, %v, want nothing found", charge, err)
		}
	case c.want.Status != "":
		if err != nil {
			t.Fatalf("got the error %v, want %+v", err, c.want)
		}
		charge.Detail = ""
		wantEqual(t, "charge", c.want, charge)
	default:
		var failed *phases.CallError
		if !errors.As(err, &failed) {
			t.Fatalf("got %+v, %v, want a call error", charge, err)
		}
		wantNoSecrets(t, err.Error())
		wantEqual(t, "class", c.class.String(), failed.Class.String())
		wantEqual(t, "back-off", c.wait, failed.Backoff)
		wantEqual(t, "reason", c.reason, failed.Reason)
		wantEqual(t, "patience", c.after, failed.Patience)
	}
}

func servedCases() []servedCase {
	var all []servedCase
	for _, group := range [][]servedCase{
		servedWire(), servedCreated(), servedDeclines(), servedRefusals(), servedBusy(),
		servedReads(), servedLists(), servedCancels(),
	} {
		all = append(all, group...)
	}
	return all
}

// chargeOnly plays handlers for the charge alone.
func chargeOnly(handlers ...http.HandlerFunc) map[string][]http.HandlerFunc {
	return map[string][]http.HandlerFunc{routeCreate: handlers}
}

// chargeThenRead plays one handler for the charge, and one for reading its
// intent.
func chargeThenRead(charge, read http.HandlerFunc) map[string][]http.HandlerFunc {
	return map[string][]http.HandlerFunc{routeCreate: {charge}, routeRead: {read}}
}

// patientTimeout passes while the server is silent, and not before a loaded
// machine has connected to it and sent the request: that would prove that
// nothing was sent.
func patientTimeout(c *Config) { c.Timeout = 3 * time.Second }

func laterSend(s *phases.Sent[ChargeForm]) { s.First = false }

func servedWire() []servedCase {
	lost := func(name string, handler http.HandlerFunc, change func(*Config)) servedCase {
		return servedCase{name: name, row: "charge/lost", plays: chargeOnly(handler), change: change, class: phases.Unknown}
	}
	unsent := func(name string, change func(*Config)) servedCase {
		return servedCase{name: name, row: "charge/unsent", change: change, class: phases.Transient}
	}
	unreadable := func(name string, handler http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "charge/unreadable", plays: chargeOnly(handler), class: phases.Unknown}
	}
	const half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"id\":\"pi_1\""
	return []servedCase{
		lost("the connection ends without an answer", answerCut("", hangUp), nil),
		lost("the connection is reset after the request was read", answerCut("", resetConn), nil),
		lost("the answer ends in its body", answerCut(half, hangUp), nil),
		lost("the answer ends in its header", answerCut("HTTP/1.1 200 OK\r\nContent-Ty", hangUp), nil),
		lost("the answer is no HTTP", answerCut("{\"secret\":\"sk_test_x\"}\r\n\r\n", hangUp), nil),
		lost("there is no answer in time", answerNever, patientTimeout),
		lost("the answer drips past the deadline", answerSlowly, patientTimeout),
		lost("the answer is endless", answerWith(200, strings.Repeat(" ", stripeReplyLimit+1)), nil),
		lost("a 402 ends in its body", answerCut(strings.Replace(half, "200 OK", "402 Payment Required", 1), hangUp), nil),
		unsent("nobody listens", func(c *Config) { c.URL = "http://" + closedAddress() }),
		unsent("the server has no name", func(c *Config) {
			transport := newTransport(c.Timeout)
			transport.Proxy = nil // it would resolve the name itself
			c.URL, c.Transport = "http://stripe.invalid", transport
		}),
		unsent("the server speaks no TLS", func(c *Config) { c.URL = strings.Replace(c.URL, "http:", "https:", 1) }),
		unsent("the deadline passes before the dial", func(c *Config) { c.Timeout = time.Nanosecond }),
		unsent("the dial is not answered in time", func(c *Config) {
			c.Timeout = 100 * time.Millisecond
			c.Transport = &http.Transport{DialContext: dialNowhere}
		}),
		unreadable("an HTML 502", answerWith(502, "<html>bad gateway</html>", "Content-Type", "text/html")),
		unreadable("an HTML 200", answerWith(200, "<html>welcome</html>")),
		unreadable("an HTML 401", answerWith(401, "<html>log in to the hotel's network</html>")),
		unreadable("an empty 200", answerWith(200, "")),
		unreadable("a 200 with {}", answerWith(200, "{}")),
		unreadable("a 200 with null", answerWith(200, "null")),
		unreadable("a 200 with broken JSON", answerWith(200, `{"id":"pi_1","object":"payment_intent","status":"succeeded"`)),
		unreadable("a 200 with a mere id", answerWith(200, `"pi_1"`)),
		unreadable("a 200 with another kind of object", answerOK(intentWith(stripeObject{"object": "charge"}))),
		unreadable("a 200 without an id", answerOK(intentWith(stripeObject{"id": ""}))),
		unreadable("a 201", answerWith(201, encodeObject(intentWith(nil)))),
		unreadable("a 204", answerWith(204, "")),
		unreadable("a redirect", answerWith(307, "", "Location", "/elsewhere")),
		unreadable("a redirect to a broken address", answerWith(302, "", "Location", "http://[::1")),
		unreadable("a 400 without Stripe's error", answerWith(400, `{"message":"no"}`)),
		unreadable("a 402 without a type", answerWith(402, `{"error":{"message":"no"}}`)),
		unreadable("a 500 that is empty", answerWith(500, "")),
		{
			name: "Stripe has just refused our key", row: "charge/paused", also: []string{"charge/key_refused"},
			plays: chargeOnly(answerProblem(401, "invalid_request_error", "", nil)), class: phases.Transient,
			before: func(t *testing.T, s *Stripe) {
				t.Helper()
				if _, err := s.Charge(t.Context(), stageSent()); err == nil {
					t.Error("the first charge succeeded")
				}
			},
		},
		{
			name: "the frozen form isn't form-encoded", row: "charge/form_changed", class: phases.LookUp, reason: "stripe_form",
			sent: func(s *phases.Sent[ChargeForm]) { s.Form += "&x=%zz" },
		},
		{
			name: "the frozen form would be sent as other bytes", row: "charge/form_changed", class: phases.LookUp, reason: "stripe_form",
			sent: func(s *phases.Sent[ChargeForm]) { s.Form += "&x=%20" },
		},
		{
			name: "the frozen form belongs to another key", row: "charge/form_changed", class: phases.LookUp, reason: "stripe_form",
			sent: func(s *phases.Sent[ChargeForm]) { s.Key += "0" },
		},
	}
}

func servedCreated() []servedCase {
	created := func(name, row string, changes stripeObject, want Charge) servedCase {
		want.RequestID = "req_1"
		return servedCase{name: name, row: "charge/" + row, plays: chargeOnly(answerOK(intentWith(changes))), want: want}
	}
	mismatch := func(what string, changes stripeObject) servedCase {
		return created("a 200 about another "+what, "mismatch", changes, Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"})
	}
	unexpected := func(name string, changes stripeObject) servedCase {
		return created(name, "unexpected", changes,
			Charge{Status: ChargeSuspect, Reason: "stripe_unexpected", IntentID: "pi_1", ChargeID: "ch_1"})
	}
	replayed := func(name, row string, read http.HandlerFunc, want Charge) servedCase {
		want.RequestID = "req_1"
		return servedCase{
			name: name, row: "charge/replayed", also: []string{"read/" + row}, want: want,
			plays: chargeThenRead(answerOK(intentWith(nil), replayedHeader()...), read),
		}
	}
	charged := Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"}
	return []servedCase{
		created("a 200 that succeeded", "charged", nil, charged),
		created("a 200 that is processing", "processing", stripeObject{"status": "processing", "amount_received": 0, "latest_charge": nil},
			Charge{Status: ChargeProcessing, IntentID: "pi_1"}),
		mismatch("amount", stripeObject{"amount": 2351}),
		mismatch("currency", stripeObject{"currency": "eur"}),
		mismatch("customer", stripeObject{"customer": "cus_2"}),
		mismatch("operation", stripeObject{"metadata": stripeObject{"ride_id": "ride_1", "account_id": "acct_1", "operation": "0123"}}),
		mismatch("ride", stripeObject{"metadata": stripeObject{"ride_id": "ride_2", "account_id": "acct_1", "operation": stageTerms().Operation}}),
		mismatch("account", stripeObject{"metadata": stripeObject{"ride_id": "ride_1", "account_id": "acct_2", "operation": stageTerms().Operation}}),
		mismatch("object altogether", stripeObject{"id": "pi_2", "metadata": foreignMetadata()}),
		mismatch("object without metadata", stripeObject{"metadata": nil}),
		unexpected("a 200 that requires action", stripeObject{"status": "requires_action"}),
		unexpected("a 200 that requires a payment method", stripeObject{"status": "requires_payment_method"}),
		unexpected("a 200 that requires capture", stripeObject{"status": "requires_capture"}),
		unexpected("a 200 that is canceled", stripeObject{"status": "canceled"}),
		unexpected("a 200 in a state that nobody knows", stripeObject{"status": "requires_luck"}),
		unexpected("a 200 that succeeded with less money", stripeObject{"amount_received": 1000}),
		created("a 200 that succeeded without a charge", "unexpected", stripeObject{"latest_charge": nil},
			Charge{Status: ChargeSuspect, Reason: "stripe_unexpected", IntentID: "pi_1"}),
		replayed("a replayed 200 that still stands", "read_charged", answerOK(expandedWith(nil, nil)), charged),
		replayed("a replayed 200 that was refunded since", "read_refunded", answerOK(expandedWith(nil, stripeObject{"refunded": true, "amount_refunded": 2350})),
			Charge{Status: ChargeSuspect, Reason: "stripe_refunded", IntentID: "pi_1", ChargeID: "ch_1"}),
		replayed("a replayed 200 that failed since", "read_declined", answerOK(failedIntent(nil)), declinedCharge()),
		{
			name: "a replayed 200 whose intent cannot be read is unknown, not transient", row: "charge/replayed",
			also: []string{"read/look_failed"}, class: phases.Unknown,
			plays: chargeThenRead(answerOK(intentWith(nil), replayedHeader()...), answerProblem(401, "invalid_request_error", "", nil)),
		},
	}
}

func declinedCharge() Charge {
	return Charge{
		Status: ChargeDeclined, IntentID: "pi_1", ChargeID: "ch_1", DeclineKind: "card_declined",
		DeclineCode: "insufficient_funds", Message: "Your card has insufficient funds.", RequestID: "req_1",
	}
}

func servedDeclines() []servedCase {
	declined := func(name string, more stripeObject, change func(*Charge)) servedCase {
		want := declinedCharge()
		change(&want)
		return servedCase{name: name, row: "charge/declined", plays: chargeOnly(answerDeclined(more)), want: want}
	}
	soft := func(code string) servedCase {
		return declined("a 402 "+code, stripeObject{"decline_code": code}, func(c *Charge) { c.DeclineCode, c.RetryWithNewKey = code, true })
	}
	return []servedCase{
		declined("a 402 card_declined", nil, func(*Charge) {}),
		declined("a 402 authentication_required", stripeObject{"code": "authentication_required", "decline_code": "authentication_required"},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		declined("a 402 authentication_required by its code alone", stripeObject{"code": "authentication_required", "decline_code": nil},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		declined("a 402 authentication_required by its decline code alone", stripeObject{"decline_code": "authentication_required"},
			func(c *Charge) { c.DeclineKind, c.DeclineCode = "authentication_required", "authentication_required" }),
		soft("try_again_later"), soft("processing_error"), soft("issuer_not_available"),
		declined("a 402 with a soft code instead of a decline code", stripeObject{"code": "processing_error", "decline_code": nil},
			func(c *Charge) { c.DeclineCode, c.RetryWithNewKey = "processing_error", true }),
		declined("a 402 expired_card", stripeObject{"code": "expired_card", "decline_code": nil}, func(c *Charge) { c.DeclineCode = "expired_card" }),
		declined("a 402 with a message that isn't fit for people", stripeObject{"message": "{\n\"secret\": 1}"},
			func(c *Charge) { c.Message = "The card was declined." }),
		declined("a 402 without an intent", stripeObject{"payment_intent": nil}, func(c *Charge) { c.IntentID, c.ChargeID = "", "" }),
		{
			name: "a 402 about somebody else's intent", row: "charge/declined_read", also: []string{"read/read_mismatch"},
			plays: chargeThenRead(answerDeclined(stripeObject{"payment_intent": failedIntent(stripeObject{"id": "pi_2", "metadata": foreignMetadata()})}),
				answerOK(failedIntent(stripeObject{"id": "pi_2", "metadata": foreignMetadata()}))),
			want: Charge{Status: ChargeSuspect, Reason: "stripe_mismatch", RequestID: "req_1"},
		},
		{
			name: "a 402 whose intent succeeded", row: "charge/declined_read", also: []string{"read/read_charged"},
			plays: chargeThenRead(answerDeclined(stripeObject{"payment_intent": intentWith(nil)}), answerOK(expandedWith(nil, nil))),
			want:  Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1", RequestID: "req_1"},
		},
		{
			name: "a replayed 402 whose intent still lacks a payment method", row: "charge/declined_read",
			also:  []string{"read/read_declined"},
			plays: chargeThenRead(answerDeclined(nil, replayedHeader()...), answerOK(failedIntent(nil))), want: declinedCharge(),
		},
		{
			name: "a replayed 402 whose intent has forgotten its error", row: "charge/declined_read",
			also: []string{"read/read_declined"}, want: declinedCharge(),
			plays: chargeThenRead(answerDeclined(nil, replayedHeader()...), answerOK(failedIntent(stripeObject{"last_payment_error": nil}))),
		},
		{
			name: "a replayed 402 whose intent succeeded since", row: "charge/declined_read", also: []string{"read/read_charged"},
			plays: chargeThenRead(answerDeclined(nil, replayedHeader()...), answerOK(expandedWith(nil, nil))),
			want:  Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1", RequestID: "req_1"},
		},
		{
			name: "a replayed 402 without an intent", row: "charge/declined_unclear", class: phases.LookUp, reason: "stripe_unexpected",
			plays: chargeOnly(answerDeclined(stripeObject{"payment_intent": nil}, replayedHeader()...)),
		},
		{
			name: "a 402 that is no card error", row: "charge/declined_unclear", class: phases.LookUp, reason: "stripe_unexpected",
			plays: chargeOnly(answerProblem(402, "invalid_request_error", "", nil)),
		},
	}
}

func servedRefusals() []servedCase {
	transient := func(name string, handler http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "charge/key_refused", plays: chargeOnly(handler), class: phases.Transient}
	}
	lookUp := func(name, row, reason string, handler http.HandlerFunc, sent func(*phases.Sent[ChargeForm])) servedCase {
		return servedCase{name: name, row: "charge/" + row, plays: chargeOnly(handler), sent: sent, class: phases.LookUp, reason: reason}
	}
	parked := func(name string, handler http.HandlerFunc) servedCase {
		return servedCase{
			name: name, row: "charge/bad_request", plays: chargeOnly(handler),
			want: Charge{Status: ChargeSuspect, Reason: "stripe_400", RequestID: "req_1"},
		}
	}
	const kind = "invalid_request_error"
	reused := answerProblem(400, "idempotency_error", "", nil)
	wrong := answerProblem(400, kind, "parameter_unknown", stripeObject{"param": "metadata[x]"})
	cases := []servedCase{
		transient("a 401", answerProblem(401, kind, "", nil)),
		transient("a 401 api_key_expired", answerProblem(401, kind, "api_key_expired", nil)),
		transient("a 403", answerProblem(403, kind, "", nil)),
		transient("a 400 because of the mode", answerProblem(400, kind, "livemode_mismatch", nil)),
		lookUp("a 400 idempotency_error to the first send", "idempotency_error", "stripe_idempotency_error", reused, nil),
		lookUp("a 400 idempotency_error to a later send", "idempotency_error", "stripe_idempotency_error", reused, laterSend),
		lookUp("a 400 to a later send", "bad_request_later", "stripe_400", wrong, laterSend),
		lookUp("a 400 with a card's code to a later send", "bad_request_later", "stripe_400", answerProblem(400, kind, "expired_card", nil), laterSend),
		lookUp("a replayed 400", "bad_request_later", "stripe_400", answerProblem(400, kind, "expired_card", nil, replayedHeader()...), nil),
		lookUp("a 404 to a later send", "bad_request_later", "stripe_400", answerProblem(404, kind, "resource_missing", nil), laterSend),
		parked("a 400 to the first send", wrong),
		parked("a 404 to the first send", answerProblem(404, kind, "resource_missing", stripeObject{"param": "customer"})),
		parked("a 400 without a code", answerProblem(400, kind, "", nil)),
	}
	for _, code := range cardCodes() {
		cases = append(cases, servedCase{
			name: "a 400 " + code, row: "charge/bad_card", plays: chargeOnly(answerProblem(400, kind, code, stripeObject{"message": "Your card is odd."})),
			want: Charge{Status: ChargeDeclined, DeclineKind: "card_declined", DeclineCode: code, Message: "Your card is odd.", RequestID: "req_1"},
		})
	}
	for _, status := range []int{405, 406, 408, 410, 413, 415, 418, 422, 451, 499} {
		cases = append(cases, lookUp(http.StatusText(status)+" is another 4xx", "other_4xx", "stripe_unexpected", answerProblem(status, kind, "", nil), nil))
	}
	return cases
}

func servedBusy() []servedCase {
	short := phases.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second}
	inUse := func(name string, status int, kind, code string) servedCase {
		return servedCase{
			name: name, row: "charge/in_use", class: phases.Unknown, wait: short,
			plays: chargeOnly(answerProblem(status, kind, code, nil, "Stripe-Should-Retry", "true")),
		}
	}
	limited := func(name string, wait time.Duration, headers ...string) servedCase {
		return servedCase{
			name: name, row: "charge/limited", class: phases.Transient, wait: phases.Backoff{Initial: wait, Max: wait},
			plays: chargeOnly(answerProblem(429, "invalid_request_error", "rate_limit", nil, headers...)),
		}
	}
	unknown := func(name, row string, handler http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "charge/" + row, plays: chargeOnly(handler), class: phases.Unknown}
	}
	saved := func(name, body string) servedCase {
		return servedCase{
			name: name, row: "charge/saved_500", plays: chargeOnly(answerWith(500, body, replayedHeader()...)),
			class: phases.LookUp, reason: "stripe_500", after: time.Hour,
		}
	}
	waiting := unknown("a 503 that asks for 9 seconds", "server_error",
		answerProblem(503, "api_error", "", nil, "Retry-After", "9"))
	waiting.wait = phases.Backoff{Initial: 9 * time.Second, Max: 9 * time.Second}
	broken := encodeObject(stripeObject{"error": stripeObject{"type": "api_error", "message": "oh"}})
	return []servedCase{
		inUse("a 409 idempotency_key_in_use", 409, "invalid_request_error", "idempotency_key_in_use"),
		inUse("a 409 idempotency_key_in_use of another type", 409, "idempotency_error", "idempotency_key_in_use"),
		inUse("a 409 lock_timeout", 409, "invalid_request_error", "lock_timeout"),
		inUse("a 429 lock_timeout", 429, "invalid_request_error", "lock_timeout"),
		unknown("a 409 of another kind", "conflict", answerProblem(409, "invalid_request_error", "", nil)),
		unknown("a 424", "conflict", answerProblem(424, "api_error", "", nil)),
		limited("a 429", 0),
		limited("a 429 that asks for 7 seconds", 7*time.Second, "Retry-After", "7"),
		limited("a 429 that asks for 6 hours", time.Minute, "Retry-After", "21600"),
		limited("a 429 that asks for a day long ago", 0, "Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
		limited("a 429 that asks for a day far off", time.Minute, "Retry-After", "Fri, 31 Dec 2077 23:59:59 GMT"),
		limited("a 429 that asks for nonsense", 0, "Retry-After", "-5"),
		unknown("a 500", "server_error", answerWith(500, broken)),
		unknown("a 500 that asks for a retry", "server_error", answerWith(500, broken, "Stripe-Should-Retry", "true")),
		unknown("a 500 that says it isn't replayed", "server_error", answerWith(500, broken, "Idempotent-Replayed", "false")),
		unknown("a 502", "server_error", answerWith(502, broken)),
		unknown("a 503", "server_error", answerWith(503, broken)),
		unknown("a replayed 503", "server_error", answerWith(503, broken, replayedHeader()...)),
		unknown("a 504", "server_error", answerWith(504, broken)),
		unknown("a 599", "server_error", answerWith(599, broken)),
		waiting,
		saved("a replayed 500", broken),
		saved("a replayed 500 without a readable body", "<html>"),
	}
}

// readCase is FindCharge of a known intent.
func readCase(name, row string, read http.HandlerFunc) servedCase {
	return servedCase{
		name: name, row: "read/" + row, find: true, plays: map[string][]http.HandlerFunc{routeRead: {read}},
		sent: func(s *phases.Sent[ChargeForm]) { s.Ref = "pi_1" },
	}
}

// listCase is FindCharge by the list, which holds one intent of the operation.
func listCase(name, row string, over bool, read http.HandlerFunc) servedCase {
	return servedCase{
		name: name, row: "read/" + row, also: []string{"list/list_one"}, find: true,
		plays: map[string][]http.HandlerFunc{routeList: {answerPage(false, intentWith(nil))}, routeRead: {read}},
		sent:  func(s *phases.Sent[ChargeForm]) { s.WindowOver = over },
	}
}

func (c servedCase) charge(want Charge) servedCase {
	want.RequestID = "req_1"
	c.want = want
	return c
}

func (c servedCase) nothing() servedCase {
	c.none = true
	return c
}

func suspectCharge(reason string) Charge {
	return Charge{Status: ChargeSuspect, Reason: reason, IntentID: "pi_1", ChargeID: "ch_1"}
}

func servedReads() []servedCase {
	charged := Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"}
	open := failedIntent(stripeObject{"last_payment_error": nil})
	canceled := failedIntent(stripeObject{"status": "canceled"})
	byCharge := expandedWith(stripeObject{"status": "canceled", "amount_received": 0},
		stripeObject{"paid": false, "failure_code": "expired_card", "failure_message": "Your card has expired."})
	limited := readCase("reading is limited", "look_limited", answerProblem(429, "invalid_request_error", "rate_limit", nil, "Retry-After", "3"))
	limited.wait = phases.Backoff{Initial: 3 * time.Second, Max: 3 * time.Second}
	unread := func(name string, read http.HandlerFunc) servedCase { return readCase(name, "look_failed", read) }
	return []servedCase{
		limited,
		readCase("the intent is gone", "look_refused", answerProblem(404, "invalid_request_error", "resource_missing", nil)).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
		unread("reading ends without an answer", answerCut("", hangUp)),
		unread("reading is refused", answerProblem(401, "invalid_request_error", "", nil)),
		unread("reading fails", answerProblem(500, "api_error", "", nil)),
		unread("reading brings {}", answerWith(200, "{}")),
		unread("reading brings HTML", answerWith(503, "<html>")),
		readCase("another intent than asked for", "read_mismatch", answerOK(expandedWith(stripeObject{"id": "pi_2"}, nil))).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}),
		readCase("an intent of somebody else", "read_mismatch", answerOK(expandedWith(stripeObject{"metadata": foreignMetadata()}, nil))).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_mismatch"}),
		readCase("it succeeded", "read_charged", answerOK(expandedWith(nil, nil))).charge(charged),
		readCase("it was refunded", "read_refunded", answerOK(expandedWith(nil, stripeObject{"refunded": true}))).charge(suspectCharge("stripe_refunded")),
		readCase("it was refunded in part", "read_refunded", answerOK(expandedWith(nil, stripeObject{"amount_refunded": 1}))).charge(suspectCharge("stripe_refunded")),
		readCase("it is disputed", "read_refunded", answerOK(expandedWith(nil, stripeObject{"disputed": true}))).charge(suspectCharge("stripe_refunded")),
		readCase("it is processing", "read_processing", answerOK(expandedWith(stripeObject{"status": "processing", "latest_charge": nil}, nil))).
			charge(Charge{Status: ChargeProcessing, IntentID: "pi_1"}),
		listCase("it failed, inside the window", "read_open", false, answerOK(failedIntent(nil))).nothing(),
		listCase("it was never confirmed, inside the window", "read_unconfirmed_open", false, answerOK(open)).nothing(),
		listCase("it was never confirmed, after the window", "read_unconfirmed", true, answerOK(open)).charge(suspectCharge("stripe_unexpected")),
		readCase("it failed without saying why", "read_unconfirmed", answerOK(open)).charge(suspectCharge("stripe_unexpected")),
		withRef(listCase("it is processing, and failed afterwards", "read_declined", false, answerOK(failedIntent(nil))).charge(declinedCharge())),
		listCase("it was canceled after it failed", "read_canceled", true, answerOK(canceled)).charge(declinedCharge()),
		listCase("it was canceled after its charge failed", "read_canceled", true, answerOK(byCharge)).charge(Charge{
			Status: ChargeDeclined, IntentID: "pi_1", ChargeID: "ch_1", DeclineKind: "card_declined",
			DeclineCode: "expired_card", Message: "Your card has expired.",
		}),
		readCase("it was canceled without a try", "read_unexpected", answerOK(intentWith(stripeObject{"status": "canceled", "amount_received": 0}))).
			charge(suspectCharge("stripe_unexpected")),
		readCase("it was canceled after money was received", "read_unexpected",
			answerOK(failedIntent(stripeObject{"status": "canceled", "amount_received": 1}))).charge(suspectCharge("stripe_unexpected")),
		readCase("it requires action", "read_unexpected", answerOK(intentWith(stripeObject{"status": "requires_action"}))).charge(suspectCharge("stripe_unexpected")),
		readCase("it succeeded with a charge that isn't expanded", "read_unexpected", answerOK(intentWith(nil))).charge(suspectCharge("stripe_unexpected")),
		readCase("it succeeded with a charge that isn't paid", "read_unexpected", answerOK(expandedWith(nil, stripeObject{"paid": false}))).
			charge(suspectCharge("stripe_unexpected")),
		readCase("it succeeded with a charge that isn't captured", "read_unexpected", answerOK(expandedWith(nil, stripeObject{"captured": false}))).
			charge(suspectCharge("stripe_unexpected")),
	}
}

// withRef turns a look into the list into one at a known intent.
func withRef(c servedCase) servedCase {
	c.also = nil
	c.sent = func(s *phases.Sent[ChargeForm]) { s.Ref = "pi_1" }
	return c
}

func servedLists() []servedCase {
	listing := func(name, row string, pages ...http.HandlerFunc) servedCase {
		return servedCase{name: name, row: "list/" + row, find: true, plays: map[string][]http.HandlerFunc{routeList: pages}}
	}
	other := intentWith(stripeObject{"id": "pi_9", "metadata": foreignMetadata()})
	limited := listing("listing is limited", "look_limited", answerProblem(429, "invalid_request_error", "rate_limit", nil, "Retry-After", "3"))
	limited.wait = phases.Backoff{Initial: 3 * time.Second, Max: 3 * time.Second}
	one := listCase("one of many is ours", "read_charged", false, answerOK(expandedWith(nil, nil))).
		charge(Charge{Status: ChargeSucceeded, IntentID: "pi_1", ChargeID: "ch_1"})
	one.row, one.also = "list/list_one", []string{"read/read_charged"}
	one.plays[routeList] = []http.HandlerFunc{answerPage(true, other), answerPage(false, intentWith(nil))}
	late := listing("time runs out between two pages", "look_failed", answerPage(true, other), answerNever)
	late.change = patientTimeout
	return []servedCase{
		limited, one, late,
		listing("listing is refused for the customer", "look_refused", answerProblem(404, "invalid_request_error", "resource_missing", nil)).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
		listing("the list is empty", "list_none", answerPage(false)).nothing(),
		listing("the list holds only others", "list_none", answerPage(true, other), answerPage(false)).nothing(),
		listing("the list holds two of ours", "list_more", answerPage(true, intentWith(nil)), answerPage(false, intentWith(stripeObject{"id": "pi_2"}))).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_more_than_one"}),
		listing("the second page fails", "look_failed", answerPage(true, other), answerProblem(500, "api_error", "", nil)),
		listing("the second page is cut", "look_failed", answerPage(true, other), answerCut("", hangUp)),
		listing("more is promised after an empty page", "look_failed", answerPage(true)),
		listing("the second page is the first again", "look_failed", answerPage(true, other)),
		listing("the list is {}", "look_failed", answerWith(200, "{}")),
		listing("the list doesn't say whether there is more", "look_failed", answerWith(200, `{"object":"list","data":[]}`)),
		listing("the list has no data", "look_failed", answerWith(200, `{"object":"list","has_more":false}`)),
		listing("the list holds null", "look_failed", answerWith(200, `{"object":"list","has_more":false,"data":[null]}`)),
		listing("the list is another object", "look_failed", answerWith(200, `{"object":"customer","has_more":false,"data":[]}`)),
	}
}

func servedCancels() []servedCase {
	canceling := func(name, row string, cancel http.HandlerFunc) servedCase {
		c := listCase(name, row, true, answerOK(failedIntent(nil)))
		c.row, c.also = "cancel/"+row, []string{"list/list_one", "read/read_last"}
		c.plays[routeCancel] = []http.HandlerFunc{cancel}
		return c
	}
	limited := canceling("canceling is limited", "look_limited", answerProblem(429, "invalid_request_error", "rate_limit", nil))
	last := canceling("it failed, after the window", "canceled", answerOK(failedIntent(stripeObject{"status": "canceled"}))).charge(declinedCharge())
	last.row, last.also = "read/read_last", []string{"list/list_one", "cancel/canceled"}
	return []servedCase{
		limited, last,
		canceling("canceling forgets the error", "canceled", answerOK(intentWith(stripeObject{"status": "canceled"}))).charge(declinedCharge()),
		canceling("canceling is refused", "look_refused", answerProblem(400, "invalid_request_error", "payment_intent_unexpected_state", nil)).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
		canceling("canceling fails", "look_failed", answerProblem(500, "api_error", "", nil)),
		canceling("canceling ends without an answer", "look_failed", answerCut("", hangUp)),
		canceling("canceling brings an intent that isn't canceled", "not_canceled", answerOK(intentWith(nil))).charge(suspectCharge("stripe_unexpected")),
		canceling("canceling brings another intent", "not_canceled", answerOK(failedIntent(stripeObject{"id": "pi_2", "status": "canceled"}))).
			charge(Charge{Status: ChargeSuspect, Reason: "stripe_unexpected"}),
	}
}

// closedAddress returns a loopback address on which nobody listens.
func closedAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		panic(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// dialNowhere dials until it is told to stop.
func dialNowhere(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The handshake is over when this server answers, so the request may have been
// read.
func TestStripeTLSErrorAfterTheRequestIsUnknown(t *testing.T) {
	t.Parallel()
	stage := stageFor(t, chargeOnly(answerCut("", func(conn net.Conn) {
		if secure, isTLS := conn.(*tls.Conn); isTLS {
			_, _ = secure.NetConn().Write([]byte("this is no TLS record, and the connection is beyond repair"))
		}
		_ = conn.Close()
	})))
	stage.StartTLS()
	client, registry := stage.client(t, func(c *Config) { c.Transport = stage.Client().Transport })
	_, err := client.Charge(t.Context(), stageSent())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Unknown {
		t.Errorf("got %v, want an unknown result", err)
	}
	wantEqual(t, "rows", []string{"charge/lost"}, judgments(t, registry))
	wantEqual(t, "sends", 1, len(stage.seen(routeCreate)))
}

// Nobody can have read what a server got whose certificate was refused.
func TestStripeUntrustedCertificateIsTransient(t *testing.T) {
	t.Parallel()
	stage := stageFor(t, nil)
	stage.StartTLS()
	client, registry := stage.client(t, nil)
	_, err := client.Charge(t.Context(), stageSent())
	var failed *phases.CallError
	if !errors.As(err, &failed) || failed.Class != phases.Transient {
		t.Errorf("got %v, want a transient failure", err)
	}
	wantEqual(t, "rows", []string{"charge/unsent"}, judgments(t, registry))
}
