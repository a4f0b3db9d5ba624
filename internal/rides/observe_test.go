package rides

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
	"github.com/rocketrides/rocketrides/internal/web"
)

// An observed service is a harness with a handler of its own, which is called
// directly and not over the network: when it returns, the request is in the log
// and in the metrics.
type observed struct {
	*harness
	handler  http.Handler
	log      *bytes.Buffer
	registry *prometheus.Registry
}

func newObserved(t *testing.T) *observed {
	t.Helper()
	o := &observed{harness: newHarness(t), log: &bytes.Buffer{}, registry: prometheus.NewRegistry()}
	config := o.config
	config.Logger, config.Metrics = slog.New(trace.Handler(slog.NewJSONHandler(o.log, nil))), o.registry
	o.handler = NewService(config).Handler()
	return o
}

// ask makes one request and returns its answer and its line in the log.
func (o *observed) ask(t *testing.T, asked call) (reply, map[string]any) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), asked.method, asked.path, strings.NewReader(asked.body))
	request.Header.Set("Authorization", "Bearer "+asked.as.APIKey.Reveal())
	request.Header.Set("Content-Type", "application/json")
	if asked.key != "" {
		request.Header.Set("Idempotency-Key", asked.key)
	}
	maps.Copy(request.Header, asked.header)
	recorder := httptest.NewRecorder()
	o.log.Reset()
	o.handler.ServeHTTP(recorder, request)
	r := reply{status: recorder.Code, header: recorder.Header(), body: recorder.Body.String()}
	r.check(t)
	var line map[string]any
	if err := json.Unmarshal(o.log.Bytes(), &line); err != nil {
		t.Fatalf("the log has %q: %v", o.log, err)
	}
	return r, line
}

// counted returns how many answers of POST /v1/rides were counted with a status
// and a code.
func (o *observed) counted(t *testing.T, status string, code web.Code) int {
	t.Helper()
	families, err := o.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			want := map[string]string{"route": "POST /v1/rides", "status": status, "code": string(code)}
			if family.GetName() == "rides_http_requests_total" && maps.Equal(labels, want) {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// TestStoredRefusalsAreToldApart: log and metrics say which 402 an answer was,
// for the first answer and for its replay.
func TestStoredRefusalsAreToldApart(t *testing.T) {
	t.Parallel()
	o := newObserved(t)
	o.exec(t, `UPDATE accounts SET payment_method = 'pm_card_authenticationRequired' WHERE id = $1`, o.second.AccountID)
	hail := func(as accounts.Credentials, key string) call {
		return call{method: "POST", path: "/v1/rides", body: aRide, key: key, as: as}
	}
	o.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore})
	o.ask(t, hail(o.visa, "resolved"))
	if err := (phases.Keys{Pool: o.pool}).Park(t.Context(), o.key(t, o.visa, "resolved"), "ann"); err != nil {
		t.Fatal(err)
	}
	resolver := o.resolver()
	if _, err := resolver.ResolveNotCharged(t.Context(), o.key(t, o.visa, "resolved"), "ann"); err != nil {
		t.Fatal(err)
	}
	for code, asked := range map[web.Code]call{
		web.CodeCardDeclined:           hail(o.declined, "k"),
		web.CodeAuthenticationRequired: hail(o.second, "k"),
		web.CodePaymentFailed:          hail(o.visa, "resolved"),
	} {
		for n := 1; n <= 2; n++ {
			r, line := o.ask(t, asked)
			r.must(t, 402, code)
			if line["code"] != string(code) {
				t.Errorf("answer %d with %s is logged as %v", n, code, line)
			}
			if got := o.counted(t, "402", code); got != n {
				t.Errorf("%d answers with %s are counted as %d", n, code, got)
			}
		}
	}
	for n := 1; n <= 2; n++ {
		r, line := o.ask(t, hail(o.visa, "charged"))
		r.must(t, 201, "")
		if code, ok := line["code"]; ok || o.counted(t, "201", "") != n {
			t.Errorf("a ride has the code %v and is counted %d times", code, o.counted(t, "201", ""))
		}
	}
}

// The trace of a request is in the log, and its X-Traceability-Id is echoed,
// also by a refusal.
func TestTraceHeaders(t *testing.T) {
	t.Parallel()
	o := newObserved(t)
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	header := http.Header{"X-Traceability-Id": {"order 7"}, "Traceparent": {"00-" + traceID + "-00f067aa0ba902b7-01"}}
	r, line := o.ask(t, call{method: "GET", path: "/v1/rides", as: o.visa, header: header})
	r.must(t, 200, "")
	if r.header.Get("X-Traceability-Id") != "order 7" || line["traceability_id"] != "order 7" || line["trace_id"] != traceID {
		t.Errorf("the headers are %v, the log has %v", r.header, line)
	}
	refused := call{method: "POST", path: "/v1/rides", header: header}
	if r := o.send(t, refused).must(t, 401, web.CodeUnauthenticated); r.header.Get("X-Traceability-Id") != "order 7" {
		t.Errorf("a refusal echoes %q", r.header.Get("X-Traceability-Id"))
	}
	r, line = o.ask(t, call{method: "GET", path: "/v1/rides", as: o.visa})
	if _, logged := line["traceability_id"]; logged || len(r.header.Values("X-Traceability-Id")) > 0 {
		t.Errorf("without headers they are %v, and the log has %v", r.header, line)
	}
}

// TestMetricsDoNotGrowWithWhatClientsSend: clients can invent methods and
// paths.
func TestMetricsDoNotGrowWithWhatClientsSend(t *testing.T) {
	t.Parallel()
	o := newObserved(t)
	series := func() (n int) {
		families, err := o.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			n += len(family.GetMetric())
		}
		return n
	}
	send := func(i int) {
		for _, path := range []string{"/v1/rides", fmt.Sprint("/x", i)} {
			o.ask(t, call{method: fmt.Sprint("EVIL", i), path: path})
		}
	}
	send(0)
	before := series()
	for i := range 20 {
		send(i)
	}
	if after := series(); before == 0 || after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
