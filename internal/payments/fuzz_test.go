package payments

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A cannedAnswer is one answer of a cannedStripe.
type cannedAnswer struct {
	status int
	header http.Header
	body   []byte
	cut    bool // the connection breaks after the body
}

// A cannedStripe is a transport that sends nothing. It gives the same answer to
// all requests to a route.
type cannedStripe struct {
	answers map[string]cannedAnswer
	served  []string // the routes, in order
}

func (s *cannedStripe) RoundTrip(r *http.Request) (*http.Response, error) {
	route := routeList
	switch rest := strings.TrimPrefix(r.URL.Path, intentsPath); {
	case strings.HasSuffix(rest, "/cancel"):
		route = routeCancel
	case rest == "/v1/account":
		route = routeAccount
	case rest == refundsPath && r.Method == http.MethodPost:
		route = routeRefund
	case rest == refundsPath:
		route = routeRefunds
	case strings.HasPrefix(rest, "/v1/customers/"):
		route = routeCustomer
	case strings.HasPrefix(rest, "/v1/payment_methods/"):
		route = routeMethod
	case rest != "":
		route = routeRead
	case r.Method == http.MethodPost:
		route = routeCreate
	}
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	s.served = append(s.served, route)
	answer := s.answers[route]
	body := io.Reader(bytes.NewReader(answer.body))
	if answer.cut {
		body = io.MultiReader(body, brokenReader{})
	}
	return &http.Response{
		StatusCode: answer.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: answer.header.Clone(),
		Body: io.NopCloser(body), ContentLength: -1, Request: r,
	}, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (s *cannedStripe) client(t *testing.T) *Stripe {
	t.Helper()
	client, err := NewStripe(Config{
		Rate: 1e6, // no waiting
		Key:  testKey, Timeout: 20 * time.Second, Saved500After: time.Hour, RefusedPause: time.Hour, Transport: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// The bits of a fuzzed case.
const (
	bitFirst = 1 << iota
	bitReplayed
	bitCut
	bitWindowOver
	bitRef
)

// answerFrom makes an answer from fuzzed values. All headers that the service
// reads hold word.
func answerFrom(bits uint8, status uint16, body []byte, word string, replayed bool) cannedAnswer {
	header := http.Header{"Content-Type": {"application/json"}, "Request-Id": {word}, "Retry-After": {word}}
	if replayed {
		header.Set(replayedHeader, "true")
	}
	return cannedAnswer{status: int(status%900) + 100, header: header, body: body, cut: bits&bitCut != 0}
}

// statusSeed returns the seed from which answerFrom makes the status.
func statusSeed(status int) uint16 { return uint16(status - 100) }

func sentFrom(bits uint8) phases.Sent[ChargeForm] {
	sent := firstSend()
	sent.First = bits&bitFirst != 0
	sent.WindowOver = bits&bitWindowOver != 0
	if bits&bitRef != 0 {
		sent.Ref = "pi_1"
	}
	return sent
}

func seedErrors() []string {
	var all []string
	for _, word := range []string{
		"card_declined", "authentication_required", "idempotency_key_in_use", "lock_timeout", "livemode_mismatch", "resource_missing", "", testKey,
	} {
		for _, kind := range []string{"card_error", "invalid_request_error", "idempotency_error", "api_error"} {
			all = append(all, encodeObject(object{"error": object{
				"type": kind, "code": word, "decline_code": word, "param": word, "message": "No such thing: " + word,
			}}))
		}
	}
	return append(all, encodeObject(object{"error": object{
		"type": "card_error", "code": "card_declined", "message": "Your card has no " + testKey, "payment_intent": failedIntent(nil),
	}}))
}

func seedIntents() []string {
	all := []string{"", "{}", "null", `"pi_1"`, "[]", "<html>", `{"object":"payment_intent","id":"pi_1"}`}
	for _, changes := range []object{
		nil,
		{"amount": 1},
		{"amount_received": 1},
		{"currency": "eur"},
		{"customer": "cus_2"},
		{"customer": object{"id": "cus_1"}},
		{"customer": nil},
		{"metadata": foreignMetadata()},
		{"metadata": object{}},
		{"id": "pi_2"},
		{"id": testKey},
		{"id": "pi_\x00"},
		{"latest_charge": "ch_\x00"},
		{"object": "charge"},
		{"livemode": true},
		{"status": "canceled"},
		{"status": "processing"},
		{"status": "requires_action"},
		{"status": "requires_capture"},
		{"latest_charge": nil},
		{"status": testKey},
	} {
		all = append(all, encodeObject(intentWith(changes)), encodeObject(expandedWith(changes, nil)), encodeObject(failedIntent(changes)))
	}
	for _, name := range []string{"ride_id", "account_id", "operation"} {
		almost := object{"ride_id": "ride_1", "account_id": "acct_1", "operation": testTerms().Operation}
		almost[name] = "another"
		all = append(all, encodeObject(intentWith(object{"metadata": almost})), encodeObject(expandedWith(object{"metadata": almost}, nil)))
	}
	for _, charge := range []object{
		{"paid": false}, {"status": "failed"}, {"captured": false}, {"refunded": true}, {"amount_refunded": 1}, {"disputed": true}, {"failure_code": testKey, "failure_message": testKey},
	} {
		all = append(all, encodeObject(expandedWith(nil, charge)), encodeObject(expandedWith(object{"status": "canceled", "amount_received": 0}, charge)))
	}
	return all
}

// seedPayers returns customers and payment methods.
func seedPayers() []string {
	missing := object{"error": object{"type": "invalid_request_error", "code": "resource_missing"}}
	all := []object{missing, {"id": "acct_1", "object": "account"}, {"id": "cus_1", "object": "customer", "deleted": true}, customerWith(nil), customerWith(object{"livemode": true})}
	for _, customer := range []any{"cus_1", nil, "cus_2", object{"id": "cus_1"}} {
		all = append(all, methodWith(object{"customer": customer}))
	}
	var seeds []string
	for _, body := range all {
		seeds = append(seeds, encodeObject(body))
	}
	return seeds
}

// FuzzStripeCharge gives any answer to a charge, and to the reads that may
// follow: of its intent, its customer and its payment method.
func FuzzStripeCharge(f *testing.F) {
	intents := seedIntents()
	bits := []uint8{bitFirst, 0, bitFirst | bitReplayed, bitCut}
	for i, body := range intents {
		f.Add(bits[i%2], statusSeed(200), []byte(body), statusSeed(200), []byte(body), "3")
		f.Add(bits[2+i%2], statusSeed(200), []byte(body), statusSeed(200), []byte(intents[(i*7+3)%len(intents)]), "3")
		f.Add(uint8(bitReplayed), statusSeed(200), []byte(encodeObject(intentWith(nil))), statusSeed(200), []byte(body), "req_1")
	}
	refused := []byte(encodeObject(object{"error": object{"type": "invalid_request_error", "code": "parameter_unknown", "payment_intent": failedIntent(nil)}}))
	for _, body := range seedPayers() {
		f.Add(uint8(bitFirst), statusSeed(400), []byte(seedErrors()[25]), statusSeed(200), []byte(body), "3")
		f.Add(uint8(bitFirst), statusSeed(400), []byte(seedErrors()[25]), statusSeed(404), []byte(body), "3")
		f.Add(uint8(bitFirst), statusSeed(400), refused, statusSeed(200), []byte(encodeObject(failedIntent(nil))), "3")
	}
	statuses := []int{400, 401, 402, 404, 409, 418, 424, 429, 500, 503}
	for i, body := range seedErrors() {
		for j := range 4 {
			f.Add(uint8(i+j)%4, statusSeed(statuses[(i+3*j)%len(statuses)]), []byte(body), statusSeed(200), []byte(encodeObject(expandedWith(nil, nil))), testKey)
		}
	}
	f.Fuzz(func(t *testing.T, bits uint8, status uint16, body []byte, readStatus uint16, readBody []byte, word string) {
		stripe := &cannedStripe{answers: map[string]cannedAnswer{
			routeCreate: answerFrom(bits, status, body, word, bits&bitReplayed != 0),
			routeRead:   answerFrom(bits>>5, readStatus, readBody, word, false),
			routeCancel: answerFrom(bits>>5, readStatus, readBody, word, false),
			// The customer is there, so that the payment method is read too.
			routeCustomer: {status: 200, body: []byte(encodeObject(customerWith(nil)))},
			routeMethod:   answerFrom(bits>>5, readStatus, readBody, word, false),
			routeAccount:  answerFrom(bits>>5, readStatus, readBody, word, false),
		}}
		if len(readBody)%2 == 0 {
			stripe.answers[routeCustomer] = stripe.answers[routeMethod]
		}
		sent := sentFrom(bits)
		charge, err := stripe.client(t).Charge(t.Context(), sent)
		if errors.Is(err, phases.ErrNothingFound) || len(stripe.served) == 0 || stripe.served[0] != routeCreate {
			t.Fatalf("a charge ended with %v after %v", err, stripe.served)
		}
		checkVerdict(t, stripe, sent, charge, err)
		client := stripe.client(t)
		o := client.create(t.Context(), sent.Key, sent.Form)
		o.first = sent.First
		for o.payer = payerUnasked; o.payer <= payerUnclear; o.payer++ {
			checkOneRow(t, o)
		}
		checkOneRow(t, client.readCustomer(t.Context(), "cus_1"))
		checkOneRow(t, client.readMethod(t.Context(), "pm_1", "cus_1"))
	})
}

// FuzzStripeFind gives any answers to a look-up: to its list, read and cancel.
func FuzzStripeFind(f *testing.F) {
	page := func(intents ...string) []byte {
		return []byte(`{"object":"list","has_more":false,"data":[` + strings.Join(intents, ",") + `]}`)
	}
	ours := encodeObject(intentWith(nil))
	canceled := []byte(encodeObject(failedIntent(object{"status": "canceled"})))
	bits := []uint8{0, bitWindowOver, bitRef, bitWindowOver | bitRef}
	for i, body := range append(seedIntents(), seedErrors()...) {
		f.Add(bits[i%4], page(ours), statusSeed(200), []byte(body), []byte(body), "")
		f.Add(bits[i/4%4], page(ours), statusSeed(429), []byte(body), canceled, "60")
		f.Add(uint8(bitWindowOver), page(ours), statusSeed(200), []byte(encodeObject(failedIntent(nil))), []byte(body), "")
		f.Add(uint8(0), []byte(body), statusSeed(200), []byte(ours), canceled, "Fri, 31 Dec 9999 23:59:59 GMT")
	}
	f.Add(uint8(0), page(), statusSeed(200), []byte(ours), canceled, "")
	f.Add(uint8(0), page(ours, strings.Replace(ours, "pi_1", "pi_2", 1)), statusSeed(200), []byte(ours), canceled, "")
	f.Add(uint8(0), []byte(`{"object":"list","has_more":true,"data":[null]}`), statusSeed(200), []byte(ours), canceled, "")
	f.Fuzz(func(t *testing.T, bits uint8, list []byte, status uint16, read, cancel []byte, word string) {
		stripe := &cannedStripe{answers: map[string]cannedAnswer{
			routeList:   answerFrom(bits>>3, statusSeed(200+200*int(bits>>7)), list, word, false),
			routeRead:   answerFrom(bits, status, read, word, bits&bitReplayed != 0),
			routeCancel: answerFrom(bits>>5, statusSeed(200), cancel, word, false),
			// Either may follow a list that is refused.
			routeCustomer: answerFrom(bits, status, read, word, false),
			routeAccount:  answerFrom(bits, status, read, word, false),
		}}
		sent := sentFrom(bits)
		charge, err := stripe.client(t).FindCharge(t.Context(), sent, customers())
		if len(stripe.served) == 0 || slices.Contains(stripe.served, routeCreate) {
			t.Fatalf("a look-up made the requests %v", stripe.served)
		}
		checkVerdict(t, stripe, sent, charge, err)
		client := stripe.client(t)
		checkOneRow(t, client.list(t.Context(), sent.FirstSentAt, sent.Key, []string{testTerms().Customer}))
		o := client.read(t.Context(), "pi_1", sent.Form)
		for known := range 16 {
			o.settled, o.windowOver, o.stop, o.alone = known&1 != 0, known&2 != 0, known&4 != 0, known&8 != 0
			checkOneRow(t, o)
		}
		checkOneRow(t, client.cancel(t.Context(), "pi_1", sent.Form))
	})
}

func checkOneRow(t *testing.T, o *observation) {
	t.Helper()
	if _, err := onlyRow(o); err != nil {
		t.Fatalf("%v for %+v", err, o)
	}
}
