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

// A playedAnswer is what a fuzzer makes Stripe answer.
type playedAnswer struct {
	status int
	header http.Header
	body   []byte
	cut    bool // the connection breaks behind the body
}

// playedStripe carries requests to nowhere, and answers all of a route alike.
type playedStripe struct {
	plays  map[string]playedAnswer
	served []string // the routes, in order
}

func (p *playedStripe) RoundTrip(r *http.Request) (*http.Response, error) {
	route := routeList
	switch rest := strings.TrimPrefix(r.URL.Path, intentsPath); {
	case strings.HasSuffix(rest, "/cancel"):
		route = routeCancel
	case rest != "":
		route = routeRead
	case r.Method == http.MethodPost:
		route = routeCreate
	}
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	p.served = append(p.served, route)
	play := p.plays[route]
	body := io.Reader(bytes.NewReader(play.body))
	if play.cut {
		body = io.MultiReader(body, brokenReader{})
	}
	return &http.Response{
		StatusCode: play.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: play.header.Clone(),
		Body: io.NopCloser(body), ContentLength: -1, Request: r,
	}, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (p *playedStripe) client(t *testing.T) *Stripe {
	t.Helper()
	client, err := NewStripe(Config{
		Key: stageKey, Timeout: 20 * time.Second, Saved500After: time.Hour, RefusedPause: time.Hour, Transport: p,
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
	bitCutLater
)

// playOf makes answers of what a fuzzer drew. Every header that the service
// reads has the one word.
func playOf(bits uint8, status uint16, body []byte, word string, replayed bool) playedAnswer {
	header := http.Header{"Content-Type": {"application/json"}, "Request-Id": {word}, "Retry-After": {word}}
	if replayed {
		header.Set(stripeReplayHeader, "true")
	}
	return playedAnswer{status: int(status%900) + 100, header: header, body: body, cut: bits&bitCut != 0}
}

// seedStatus is the number that playOf makes the status of.
func seedStatus(status int) uint16 { return uint16(status - 100) }

func sentBy(bits uint8) phases.Sent[ChargeForm] {
	sent := stageSent()
	sent.First = bits&bitFirst != 0
	sent.WindowOver = bits&bitWindowOver != 0
	if bits&bitRef != 0 {
		sent.Ref = "pi_1"
	}
	return sent
}

func seedProblems() []string {
	var all []string
	for _, word := range []string{
		"card_declined", "authentication_required", "idempotency_key_in_use", "lock_timeout", "livemode_mismatch", "resource_missing", "", stageKey,
	} {
		for _, kind := range []string{"card_error", "invalid_request_error", "idempotency_error", "api_error"} {
			all = append(all, encodeObject(stripeObject{"error": stripeObject{
				"type": kind, "code": word, "decline_code": word, "param": word, "message": "No such thing: " + word,
			}}))
		}
	}
	return append(all, encodeObject(stripeObject{"error": stripeObject{
		"type": "card_error", "code": "card_declined", "message": "Your card has no " + stageKey, "payment_intent": failedIntent(nil),
	}}))
}

func seedIntents() []string {
	all := []string{"", "{}", "null", `"pi_1"`, "[]", "<html>", `{"object":"payment_intent","id":"pi_1"}`}
	for _, changes := range []stripeObject{
		nil,
		{"amount": 1},
		{"amount_received": 1},
		{"currency": "eur"},
		{"customer": "cus_2"},
		{"customer": stripeObject{"id": "cus_1"}},
		{"customer": nil},
		{"metadata": foreignMetadata()},
		{"metadata": stripeObject{}},
		{"id": "pi_2"},
		{"id": stageKey},
		{"id": "pi_\x00"},
		{"latest_charge": "ch_\x00"},
		{"object": "charge"},
		{"status": "canceled"},
		{"status": "processing"},
		{"status": "requires_action"},
		{"status": "requires_capture"},
		{"latest_charge": nil},
		{"status": stageKey},
	} {
		all = append(all, encodeObject(intentWith(changes)), encodeObject(expandedWith(changes, nil)), encodeObject(failedIntent(changes)))
	}
	for _, name := range []string{"ride_id", "account_id", "operation"} {
		almost := stripeObject{"ride_id": "ride_1", "account_id": "acct_1", "operation": stageTerms().Operation}
		almost[name] = "another"
		all = append(all, encodeObject(intentWith(stripeObject{"metadata": almost})), encodeObject(expandedWith(stripeObject{"metadata": almost}, nil)))
	}
	for _, charge := range []stripeObject{
		{"paid": false}, {"captured": false}, {"refunded": true}, {"amount_refunded": 1}, {"disputed": true}, {"failure_code": stageKey, "failure_message": stageKey},
	} {
		all = append(all, encodeObject(expandedWith(nil, charge)), encodeObject(expandedWith(stripeObject{"status": "canceled", "amount_received": 0}, charge)))
	}
	return all
}

// FuzzStripeCharge answers a charge, and the read that some answers ask for,
// with anything.
func FuzzStripeCharge(f *testing.F) {
	intents := seedIntents()
	bits := []uint8{bitFirst, 0, bitFirst | bitReplayed, bitCut}
	for i, body := range intents {
		f.Add(bits[i%2], seedStatus(200), []byte(body), seedStatus(200), []byte(body), "3")
		f.Add(bits[2+i%2], seedStatus(200), []byte(body), seedStatus(200), []byte(intents[(i*7+3)%len(intents)]), "3")
		f.Add(uint8(bitReplayed), seedStatus(200), []byte(encodeObject(intentWith(nil))), seedStatus(200), []byte(body), "req_1")
	}
	statuses := []int{400, 401, 402, 404, 409, 418, 424, 429, 500, 503}
	for i, body := range seedProblems() {
		for j := range 4 {
			f.Add(uint8(i+j)%4, seedStatus(statuses[(i+3*j)%len(statuses)]), []byte(body), seedStatus(200), []byte(encodeObject(expandedWith(nil, nil))), stageKey)
		}
	}
	f.Fuzz(func(t *testing.T, bits uint8, status uint16, body []byte, readStatus uint16, readBody []byte, word string) {
		play := &playedStripe{plays: map[string]playedAnswer{
			routeCreate: playOf(bits, status, body, word, bits&bitReplayed != 0),
			routeRead:   playOf(bits>>5, readStatus, readBody, word, false),
		}}
		sent := sentBy(bits)
		charge, err := play.client(t).Charge(t.Context(), sent)
		if errors.Is(err, phases.ErrNothingFound) || len(play.served) == 0 || play.served[0] != routeCreate {
			t.Fatalf("a charge ended with %v after %v", err, play.served)
		}
		checkVerdict(t, play, sent, charge, err)
		o := play.client(t).create(t.Context(), sent.Key, sent.Form)
		o.first = sent.First
		checkOneRow(t, sendRows(), o)
	})
}

// FuzzStripeFind answers a look at Stripe (a list, a read and a cancel) with
// anything.
func FuzzStripeFind(f *testing.F) {
	page := func(intents ...string) []byte {
		return []byte(`{"object":"list","has_more":false,"data":[` + strings.Join(intents, ",") + `]}`)
	}
	ours := encodeObject(intentWith(nil))
	canceled := []byte(encodeObject(failedIntent(stripeObject{"status": "canceled"})))
	bits := []uint8{0, bitWindowOver, bitRef, bitWindowOver | bitRef}
	for i, body := range append(seedIntents(), seedProblems()...) {
		f.Add(bits[i%4], page(ours), seedStatus(200), []byte(body), []byte(body), "")
		f.Add(bits[i/4%4], page(ours), seedStatus(429), []byte(body), canceled, "60")
		f.Add(uint8(bitWindowOver), page(ours), seedStatus(200), []byte(encodeObject(failedIntent(nil))), []byte(body), "")
		f.Add(uint8(0), []byte(body), seedStatus(200), []byte(ours), canceled, "Fri, 31 Dec 9999 23:59:59 GMT")
	}
	f.Add(uint8(0), page(), seedStatus(200), []byte(ours), canceled, "")
	f.Add(uint8(0), page(ours, strings.Replace(ours, "pi_1", "pi_2", 1)), seedStatus(200), []byte(ours), canceled, "")
	f.Add(uint8(0), []byte(`{"object":"list","has_more":true,"data":[null]}`), seedStatus(200), []byte(ours), canceled, "")
	f.Fuzz(func(t *testing.T, bits uint8, list []byte, status uint16, read, cancel []byte, word string) {
		play := &playedStripe{plays: map[string]playedAnswer{
			routeList:   playOf(bits>>3, seedStatus(200), list, word, false),
			routeRead:   playOf(bits, status, read, word, bits&bitReplayed != 0),
			routeCancel: playOf(bits>>5, seedStatus(200), cancel, word, false),
		}}
		sent := sentBy(bits)
		charge, err := play.client(t).FindCharge(t.Context(), sent)
		if len(play.served) == 0 || slices.Contains(play.served, routeCreate) {
			t.Fatalf("a look made the requests %v", play.served)
		}
		checkVerdict(t, play, sent, charge, err)
		client := play.client(t)
		looked := client.list(t.Context(), sent.FirstSentAt, sent.Form)
		checkOneRow(t, listRows(), looked)
		o := client.read(t.Context(), "pi_1", sent.Form)
		for known := range 8 {
			o.settled, o.windowOver, o.first = known&1 != 0, known&2 != 0, known&4 != 0
			checkOneRow(t, readRows(), o)
		}
		checkOneRow(t, cancelRows(), client.cancel(t.Context(), "pi_1", sent.Form))
	})
}

func checkOneRow(t *testing.T, table []resultRow, o observation) {
	t.Helper()
	if _, err := onlyRow(table, o); err != nil {
		t.Fatalf("%v for %+v", err, o)
	}
}
