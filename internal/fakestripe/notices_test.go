package fakestripe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const webhookSecret = "whsec_fake"

// An endpoint is a webhook endpoint that notes what it gets, and answers with
// status.
type endpoint struct {
	url string

	mu     sync.Mutex
	status int
	got    []reply
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{status: http.StatusOK}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading an event: %v", err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got = append(e.got, reply{header: r.Header, body: string(body)})
		w.WriteHeader(e.status)
	}))
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

// answer makes the endpoint answer with another status.
func (e *endpoint) answer(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = status
}

// wait waits until the endpoint has got n events, and returns them.
func (e *endpoint) wait(t *testing.T, n int) []reply {
	t.Helper()
	for ctx := soon(t); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		got := slices.Clone(e.got)
		e.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if ctx.Err() != nil {
			t.Fatalf("%d events came, want %d: %v", len(got), n, got)
		}
	}
}

// types are those of events, sorted.
func types(got []reply) []string {
	var names []string
	for _, r := range got {
		names = append(names, r.get("type"))
	}
	slices.Sort(names)
	return names
}

// deliver waits until every delivery is over.
func (f fake) deliver(t *testing.T) {
	t.Helper()
	for ctx := soon(t); ; time.Sleep(time.Millisecond) {
		pending := 0
		f.view(func(st *state) { pending = len(st.deliveries) })
		if pending == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d deliveries are not over", pending)
		}
	}
}

func TestEveryChangeIsTold(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	f := open(t, Options{EventsTo: []string{e.url}, WebhookSecret: webhookSecret})
	told := 0
	check := func(what string, want ...string) {
		t.Helper()
		got := e.wait(t, told+len(want))
		if diff := cmp.Diff(want, types(got[told:])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		told = len(got)
	}
	intent := f.post(t, intents, "k1", hail("r1")).get("id")
	check("a charge", "payment_intent.succeeded")
	f.post(t, intents, "k1", hail("r1")) // a replay changes nothing
	declinedForm := strings.NewReplacer("cus_visa", "cus_declined", "pm_card_visa", "pm_declined").Replace(hail("r2"))
	declinedIntent := f.post(t, intents, "k3", declinedForm).get("error.payment_intent.id")
	check("a declined charge", "payment_intent.payment_failed")
	f.post(t, intents+"/"+declinedIntent+"/cancel", "k4", "")
	check("a canceled payment intent", "payment_intent.canceled")
	part, err := f.DashboardRefund(intent, 100)
	if err != nil {
		t.Fatal(err)
	}
	check("a refund", "charge.refunded", "refund.created")
	if err := f.ChangeRefund(part, failed); err != nil {
		t.Fatal(err)
	}
	check("a refund that fails", "charge.refund.updated", "refund.failed", "refund.updated")
	for _, c := range []struct {
		status string
		want   []string
	}{
		{"needs_response", []string{"charge.dispute.created", "charge.dispute.funds_withdrawn"}},
		{"under_review", []string{"charge.dispute.updated"}},
		{"won", []string{"charge.dispute.closed", "charge.dispute.funds_reinstated"}},
	} {
		if err := f.Dispute(intent, c.status); err != nil {
			t.Fatal(err)
		}
		check("a dispute that is "+c.status, c.want...)
	}
	f.read(t, "/v1/events?type=charge.dispute.updated").want(t, 200, "data.0.type", "charge.dispute.updated", "data.1", "<missing>")
	f.read(t, "/v1/events/"+f.Events()[0].ID).want(t, 200, "data.object.id", intent, "type", "payment_intent.succeeded")
	f.read(t, "/v1/events/evt_none").want(t, 404, "error.code", "resource_missing")
}

// TestTheShapesOfAnEvent: both are signed over the bytes that are sent, and have
// ids of their own.
func TestTheShapesOfAnEvent(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	f := open(t, Options{EventsTo: []string{e.url}, WebhookSecret: webhookSecret})
	f.SetEventRules(EventRule{Shape: "both", Times: 2})
	intent := f.post(t, intents, "k1", hail("r1")).get("id")
	byShape := map[string][]reply{}
	for _, r := range e.wait(t, 4) {
		byShape[r.get("object")] = append(byShape[r.get("object")], r)
		at, mac, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Stripe-Signature"), "t="), ",v1=")
		want := hmac.New(sha256.New, []byte(webhookSecret))
		want.Write([]byte(at + "." + r.body))
		if mac != hex.EncodeToString(want.Sum(nil)) {
			t.Errorf("the signature is %s", r.header.Get("Stripe-Signature"))
		}
		if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
			t.Errorf("the signature's time is %s", at)
		}
	}
	full, thin := byShape["event"], byShape["v2.core.event"]
	if len(full) != 2 || len(thin) != 2 || full[0].body != full[1].body || thin[0].body != thin[1].body {
		t.Fatalf("got %d snapshot events and %d thin ones, each of which should come twice", len(full), len(thin))
	}
	for path, want := range map[string]string{"type": "payment_intent.succeeded", "data.object.id": intent, "data.object.status": "succeeded", "livemode": "false"} {
		if got := full[0].get(path); got != want {
			t.Errorf("%s of the snapshot event is %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"type": "v1.payment_intent.succeeded", "related_object.id": intent, "related_object.type": "payment_intent",
		"related_object.url": intents + "/" + intent, "snapshot_event": full[0].get("id"), "data": "<missing>",
	} {
		if got := thin[0].get(path); got != want {
			t.Errorf("%s of the thin event is %s, want %s", path, got, want)
		}
	}
	if _, err := time.Parse(time.RFC3339, thin[0].get("created")); err != nil || thin[0].get("id") == full[0].get("id") {
		t.Errorf("the thin event is %s", thin[0].body)
	}
}

func TestEventsComeLateOrNever(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	f := open(t, Options{EventsTo: []string{e.url}, WebhookSecret: webhookSecret})
	rules := `[{"types":["refund.created"],"never":true},{"delay":"1h","shape":"thin"}]`
	f.control(t, http.MethodPost, "/_fake/events", rules).want(t, 200, "rules.1.shape", "thin", "endpoints.0", e.url)
	f.post(t, intents, "k1", hail("r1"))
	f.post(t, "/v1/refunds", "k2", "payment_intent="+f.PaymentIntents()[0].ID)
	f.control(t, http.MethodGet, "/_fake/events", "").want(t, 200, "events.2.type", "refund.created", "pending.1.attempts", "0", "pending.2", "<missing>")
	f.control(t, http.MethodDelete, "/_fake/events", "").want(t, 200, "rules.0", "<missing>")
	if _, err := f.DashboardRefund(f.PaymentIntents()[0].ID, 1); err == nil {
		t.Fatal("there was something left to refund")
	}
	f.post(t, intents, "k3", hail("r3"))
	if got := types(e.wait(t, 1)); !slices.Equal(got, []string{"payment_intent.succeeded"}) {
		t.Errorf("before their time, these came: %v", got)
	}
	if err := f.Advance(time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := types(e.wait(t, 3)[1:]); !slices.Equal(got, []string{"v1.charge.refunded", "v1.payment_intent.succeeded"}) {
		t.Errorf("an hour later these came: %v", got)
	}
}

func TestAnEventIsSentUntilItIsAcknowledged(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	e.answer(http.StatusFound)
	dir := t.TempDir()
	o := Options{Dir: dir, EventsTo: []string{e.url}, WebhookSecret: webhookSecret}
	first, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	first.SetEventRules(EventRule{Delay: Latency{Max: Duration(time.Millisecond)}})
	if err := first.step(func(t *tx) error {
		t.change.Disputes = []*dispute{{ID: "dp_1", Object: "dispute", Status: needsResponse}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	e.wait(t, 2)
	// Both are sent again after a restart, and after the pause.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	f := open(t, o)
	e.answer(http.StatusOK)
	if err := f.Advance(longestPause); err != nil {
		t.Fatal(err)
	}
	e.wait(t, 4)
	f.deliver(t)
	// One that was delivered can be sent again, in either shape.
	id := f.Events()[0].ID
	f.control(t, http.MethodPost, "/_fake/events/send", `{"id":"`+id+`","shape":"thin"}`).want(t, 200, "status", "ok")
	got := e.wait(t, 5)
	if last := got[len(got)-1]; last.get("snapshot_event") != id {
		t.Errorf("got %s", last.body)
	}
	f.control(t, http.MethodPost, "/_fake/events/send", `{"id":"evt_none"}`).want(t, 400, "error", "there is no event evt_none")
	f.control(t, http.MethodPost, "/_fake/events/send", `{"id":"`+id+`","shape":"flat"}`).want(t, 400)
	f.control(t, http.MethodPost, "/_fake/events", `{"shape":"flat"}`).want(t, 400)
	f.control(t, http.MethodPost, "/_fake/events", `{"times":101}`).want(t, 400)
}

func TestAnEventIsGivenUpAfterThreeDays(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	e.answer(http.StatusInternalServerError)
	f := open(t, Options{EventsTo: []string{e.url}, WebhookSecret: webhookSecret})
	f.post(t, intents, "k1", hail("r1"))
	e.wait(t, 1)
	if err := f.Advance(71 * time.Hour); err != nil {
		t.Fatal(err)
	}
	e.wait(t, 3) // so the second was not the last, and that was an hour before the end
	if err := f.Advance(time.Hour); err != nil {
		t.Fatal(err)
	}
	f.deliver(t)
}

func TestEventsAreMadeForTestsToSend(t *testing.T) {
	t.Parallel()
	f := open(t, Options{WebhookSecret: webhookSecret})
	f.post(t, intents, "k1", hail("r1"))
	all := f.Events()
	if len(all) != 1 || all[0].Type != "payment_intent.succeeded" || all[0].ObjectID != f.PaymentIntents()[0].ID {
		t.Fatalf("the events are %+v", all)
	}
	at := time.Unix(1700000000, 0)
	body, signature, err := f.SignedEvent(all[0].ID, "snapshot", at)
	var sent struct{ ID string }
	if err != nil || json.Unmarshal(body, &sent) != nil || sent.ID != all[0].ID || signature != sign(body, webhookSecret, at) {
		t.Errorf("got %s, %s, %v", body, signature, err)
	}
	if _, _, err := f.SignedEvent("evt_none", "thin", at); err == nil {
		t.Error("an event that doesn't exist was signed")
	}
	if _, err := Open(Options{EventsTo: []string{"http://127.0.0.1:1"}}); err == nil {
		t.Error("events are sent without a signature")
	}
	silent := open(t, Options{})
	silent.post(t, intents, "k1", hail("r1"))
	if len(silent.Events()) != 0 {
		t.Error("events are made that nobody can be sent")
	}
}
