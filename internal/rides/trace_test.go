package rides

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/trace"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A logFile is a log of many goroutines.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// grep returns the lines that hold a text, by their messages.
func (l *logFile) grep(t *testing.T, text string) map[string][]map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[string][]map[string]any{}
	for line := range strings.Lines(l.text.String()) {
		if !strings.Contains(line, text) {
			continue
		}
		var attrs map[string]any
		if err := json.Unmarshal([]byte(line), &attrs); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		message, _ := attrs["msg"].(string)
		found[message] = append(found[message], attrs)
	}
	return found
}

// wantAttrs checks attributes of a line. A want of nil means that there is a
// number above zero.
func wantAttrs(t *testing.T, line map[string]any, want map[string]any) {
	t.Helper()
	for name, value := range want {
		number, _ := line[name].(float64)
		if value == nil && number <= 0 || value != nil && line[name] != value {
			t.Errorf("%s is %v, want %v: %v", name, line[name], value, line)
		}
	}
}

// newLoggedHarness returns a harness whose process logs to a file.
func newLoggedHarness(t *testing.T) (*harness, *logFile) {
	t.Helper()
	h, file := newHarness(t), new(logFile)
	h.log = slog.New(trace.Handler(slog.NewJSONHandler(file, nil)))
	h.process = h.startProcess(t, nil)
	return h, file
}

// From one traceability id, a person finds the line of each request, of the
// completer's attempt, of each request to Stripe, and of each job. A retry that
// brings another id is found by its own, and what it does for the key by the
// first.
func TestOneTraceFindsEveryLine(t *testing.T) {
	t.Parallel()
	h, file := newLoggedHarness(t)
	ask := func(id string) reply {
		return h.send(t, call{
			method: "POST", path: "/v1/rides", body: aRide, key: "k", as: h.visa, header: http.Header{"X-Traceability-Id": {id}},
		})
	}
	lines := func(id, message string, n int) []map[string]any {
		t.Helper()
		var found []map[string]any
		pgtest.Eventually(t, "the lines of "+message, func() bool { // a request is logged after its answer
			found = file.grep(t, `"traceability_id":"`+id+`"`)[message]
			return len(found) >= n
		})
		if len(found) != n {
			t.Errorf("%d lines say %q of %s, want %d: %v", len(found), message, id, n, found)
		}
		return found
	}
	key := map[string]any{"account": h.visa.AccountID, "key": "k"}

	h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropAfter}, fakestripe.Fault{Kind: fakestripe.DropAfter})
	ask("order 7").must(t, 503, web.CodePaymentProcessorUnavailable)
	ask("order 7 again").must(t, 503, web.CodePaymentProcessorUnavailable)
	h.expire(t)
	if counts := h.complete(t); counts.Finished != 1 {
		t.Fatalf("the completer did %+v", counts)
	}
	ask("order 7").must(t, 201, "")
	worker, err := jobs.NewClient(jobs.Config{
		Pool: h.pool, Poll: 20 * time.Millisecond, Timeout: 5 * time.Second, Concurrency: 1, Drain: time.Second, Logger: h.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if counts, err := worker.Once(t.Context()); err != nil || counts.Delivered != 1 {
		t.Fatalf("the jobs came to %+v (%v)", counts, err)
	}

	for i, want := range []map[string]any{
		{"route": "POST /v1/rides", "status": 503.0, "recovery_point_from": "started", "recovery_point": "ride_created", "attempt": 1.0, "replayed": false, "database_seconds": nil, "foreign_seconds": nil},
		{"route": "POST /v1/rides", "status": 201.0, "replayed": true},
	} {
		line := lines("order 7", "request", 2)[i]
		wantAttrs(t, line, key)
		wantAttrs(t, line, want)
	}
	retry := lines("order 7 again", "request", 1)[0]
	wantAttrs(t, retry, key)
	wantAttrs(t, retry, map[string]any{"recovery_point_from": "ride_created", "attempt": 2.0})
	finished := lines("order 7", "finished", 1)[0]
	wantAttrs(t, finished, key)
	wantAttrs(t, finished, map[string]any{
		"recovery_point_from": "ride_created", "recovery_point": "finished", "attempt": 3.0, "status": 201.0,
		"database_seconds": nil, "foreign_seconds": nil,
	})
	job := lines("order 7", "job", 1)[0]
	wantAttrs(t, job, key)
	wantAttrs(t, job, map[string]any{"kind": "receipt/1", "attempt": 1.0, "result": "delivered", "database_seconds": nil})
	sends := 0
	for _, line := range file.grep(t, `"traceability_id":"order 7"`)["stripe request"] {
		wantAttrs(t, line, key)
		wantAttrs(t, line, map[string]any{"seconds": nil})
		if line["call"] == "charge" {
			sends++
		}
	}
	if sends != 3 {
		t.Errorf("%d lines are about sends to Stripe, want 3", sends)
	}
	for _, secret := range []string{h.visa.APIKey.Reveal(), stripeKey, "pm_card_visa"} {
		if found := file.grep(t, secret); len(found) > 0 {
			t.Errorf("the log shows a secret: %v", found)
		}
	}
}

// The question for disputes comes before its key is claimed, and its lines name
// the key nevertheless.
func TestTheLinesOfACancel(t *testing.T) {
	t.Parallel()
	h, file := newLoggedHarness(t)
	ride := h.charged(t)
	h.fake.Script(fakestripe.Fault{Kind: fakestripe.Unavailable503, Match: fakestripe.Match{Method: http.MethodGet, Path: "/v1/disputes"}})
	answer := h.cancelAs(t, h.visa, ride.ID, "k").must(t, 200, "")
	want := map[string]any{"account": h.visa.AccountID, "key": "k", "request_id": answer.header.Get("Request-Id")}
	for message, text := range map[string]string{
		"stripe request": `"call":"disputes"`,
		"asking for disputes: Stripe's answer to the refund decides": `"ride":"` + ride.ID + `"`,
	} {
		found := file.grep(t, text)[message]
		if len(found) != 1 {
			t.Fatalf("%d lines say %q: %v", len(found), message, found)
		}
		wantAttrs(t, found[0], want)
	}
}

// What is done for an event is found by its object, and for an intent that is
// closed by its ride.
func TestTheLinesOfAnEvent(t *testing.T) {
	t.Parallel()
	h, file := newLoggedHarness(t)
	seen := 0
	h.hailAs(t, h.visa, "k").must(t, 201, "")
	h.hailAs(t, h.declined, "k").must(t, 402, web.CodeCardDeclined)
	intent := h.intentOf(t, "k")
	h.deliverAll(t, &seen, "snapshot")
	worker := h.eventWorker()
	worker.Logger = h.log
	h.workWith(t, worker)
	for message, want := range map[string]map[string]any{
		"event worked":   {"account": h.visa.AccountID, "ride": rideID(h.visa.AccountID, "k"), "outcome": "nothing_new", "attempt": 1.0, "database_seconds": nil, "foreign_seconds": nil},
		"stripe request": {"status": 200.0, "seconds": nil},
	} {
		found := file.grep(t, `"object":"`+intent+`"`)[message]
		if len(found) == 0 {
			t.Fatalf("no line says %q of %s: %v", message, intent, file.text.String())
		}
		wantAttrs(t, found[0], want)
	}
	closed := file.grep(t, `"ride":"`+rideID(h.declined.AccountID, "k")+`"`)["stripe request"]
	if len(closed) == 0 {
		t.Error("no line is about closing the intent of a declined ride")
	}
}
