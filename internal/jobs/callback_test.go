package jobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/proof/wire"
)

// A callback arrives with a signature that the reference library accepts, and
// with the trace of the request that caused it. It is delivered when the
// receiver has acknowledged it.
func TestCallbacksArriveSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var whileAnswering string
	r := newReceiver(t, func(http.ResponseWriter, received) {
		whileAnswering = value[string](t, b, `SELECT status || ' after ' || attempts FROM callbacks`)
	})
	b.stageCallbacks(t, "acct_1", "k", r.URL+"/hook", 1)
	c := b.callbackClient(t)
	if counts := once(t, c); counts.Delivered != 1 || counts.Failed != 0 {
		t.Errorf("the round did %+v", counts)
	}
	got := r.check(t, 1)[0]
	if err := got.verify(aSecret); err != nil {
		t.Error(err)
	}
	if whileAnswering != "pending after 0" {
		t.Errorf("before the receiver has answered the callback is %s", whileAnswering)
	}
	want := regexp.MustCompile(`^\{"type":"ride.charged","timestamp":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","data":` + regexp.QuoteMeta(aRide) + `\}$`)
	if !want.MatchString(got.body) {
		t.Errorf("the body is %s", got.body)
	}
	if !regexp.MustCompile(`^msg_[0-9a-f]{32}$`).MatchString(got.id) || got.header.Get("X-Traceability-Id") != "from the client" ||
		!strings.HasPrefix(got.header.Get("Traceparent"), "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("the headers are %v", got.header)
	}
	b.checkCallbacks(t, "delivered after 1: 200, completed")
	if id := value[string](t, b, `SELECT id FROM callbacks`); id != got.id {
		t.Errorf("the log has the id %s, the receiver got %s", id, got.id)
	}
}

// What an answer means. Only 2xx acknowledges; 410 and an address that is
// refused end the callback at once, without another attempt.
func TestAnswersDecideAboutCallbacks(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		200: "delivered after 1: 200, completed",
		204: "delivered after 1: 204, completed",
		299: "delivered after 1: 299, completed",
		300: "pending after 1: 300, due again",
		302: "pending after 1: 302, due again",
		400: "pending after 1: 400, due again",
		404: "pending after 1: 404, due again",
		410: "gone after 1: 410, completed",
		429: "pending after 1: 429, due again",
		500: "pending after 1: 500, due again",
		503: "pending after 1: 503, due again",
		0:   "pending after 1: the connection broke, or what came was not HTTP, due again",
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, func(w http.ResponseWriter, _ received) {
				if status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
			c := b.callbackClient(t)
			once(t, c)
			b.checkCallbacks(t, want)
			r.check(t, 1)
			if n := value[int](t, b, `SELECT count(*) FROM callback_endpoints`); (n == 1) != strings.HasPrefix(want, "pending") {
				t.Errorf("there are %d endpoints in trouble", n)
			}
		})
	}
}

// Every attempt at a callback has the same id and the same body, whatever went
// wrong before, so that the receiver knows it again.
func TestRetriesAreTheSameCallback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	attempts := 0
	r := newReceiver(t, func(w http.ResponseWriter, _ received) {
		if attempts++; attempts < 4 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	for range 4 {
		once(t, b.callbackClient(t)) // another process each time
		b.retryNow(t)
	}
	got := r.check(t, 4)
	for i, request := range got {
		if request.id != got[0].id || request.body != got[0].body || request.verify(aSecret) != nil {
			t.Errorf("attempt %d is %s %s, the first was %s %s", i+1, request.id, request.body, got[0].id, got[0].body)
		}
	}
	b.checkCallbacks(t, "delivered after 4: 200, completed")
	if n := value[int](t, b, `SELECT count(*) FROM callback_endpoints`); n != 0 {
		t.Error("after a success the endpoint is still in trouble")
	}
	if a, b := callbackID("acct_1", "k1", "ride.charged"), callbackID("acct_1", "k1", "ride.canceled"); a == b || a != got[0].id {
		t.Errorf("the ids of two events of a key are %s and %s", a, b)
	}
}

// TestCallbacksSurviveEveryCut cuts the connections to Postgres at each message
// of a client in turn, and lets another client go on. The receiver gets every
// callback, and gets it twice only if the cut came between its answer and the
// commit that notes it (I19).
func TestCallbacksSurviveEveryCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.addAccount(t, "acct_1")
	twice := 0
	for k := 1; ; k++ {
		prefix := fmt.Sprintf("k%d_", k)
		b.stageCallbacks(t, "acct_1", prefix, r.URL+"/"+prefix, 1)
		if _, err := b.callbackClient(t).relay(t.Context()); err != nil {
			t.Fatal(err)
		}
		row := value[string](t, b, `SELECT args FROM river.river_job WHERE args ->> 'key' = $1`, prefix+"1")
		w := wire.NewPostgres()
		config := b.config(t, w, loopback)
		c, err := NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		w.Plan(wire.On(k, wire.Fault{Kind: wire.CutAfter}))
		delivering := c.deliverCallback(t.Context(), decoded[Callback](t, row))
		uncut := w.Messages() < k
		w.Plan(wire.Nothing)
		w.Wait()
		if uncut && delivering != nil {
			t.Fatal(delivering)
		}
		once(t, b.callbackClient(t))
		requests := 0
		for _, got := range r.requests() {
			if got.path == "/"+prefix {
				requests++
			}
		}
		if requests < 1 || requests > 2 {
			t.Errorf("cut at %d: the receiver got %d requests", k, requests)
		}
		twice += requests - 1
		if n := value[int](t, b, `SELECT count(*) FROM callbacks WHERE key = $1 AND status = 'delivered'`, prefix+"1"); n != 1 {
			t.Errorf("cut at %d: the callback isn't delivered", k)
		}
		if uncut {
			if k < 5 || twice == 0 || twice > k-2 {
				t.Errorf("%d cuts, of which %d were after the receiver's answer and before the commit", k-1, twice)
			}
			return
		}
	}
}

// A process that ends while it reads an answer records what the answer says, so
// that an acknowledged callback isn't sent again (I19). The process may end
// before it has seen the status, too. Then nothing is recorded, and the test
// makes another attempt.
func TestAnAnswerCountsWhenTheProcessEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newStranger(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // 200, and no end of its body
		<-r.Context().Done()
	})
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	c := b.callbackClient(t)
	if _, err := c.relay(t.Context()); err != nil {
		t.Fatal(err)
	}
	job := decoded[Callback](t, value[string](t, b, `SELECT args FROM river.river_job`))
	err := context.Canceled
	for n := 0; errors.Is(err, context.Canceled) && n < 100; n++ {
		ctx, end := context.WithCancel(t.Context())
		err = c.deliverCallback(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { go end() }}), job)
		end()
	}
	if err != nil {
		t.Error(err)
	}
	b.checkCallbacks(t, "delivered after 1: 200, due again")
}

// A worker that comes late, after another one has delivered, doesn't undo that.
func TestALateFailureDoesNotUndoADelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.stageCallbacks(t, "acct_1", "k", r.URL, 1)
	c := b.callbackClient(t)
	if _, err := c.relay(t.Context()); err != nil {
		t.Fatal(err)
	}
	job := decoded[Callback](t, value[string](t, b, `SELECT args FROM river.river_job`))
	once(t, c)
	for _, late := range []result{{status: statusPending, httpStatus: 500}, {status: statusRefused, why: "x"}, {status: statusGone, httpStatus: 410}} {
		if err := c.endCallback(t.Context(), job, hostOf(r.URL), late); err != errDelivered { //nolint:errorlint // it is returned as it is
			t.Errorf("%+v: %v", late, err)
		}
	}
	b.checkCallbacks(t, "delivered after 1: 200, completed")
	if n := value[int](t, b, `SELECT count(*) FROM callback_endpoints`); n != 0 {
		t.Error("a late failure counts against the endpoint")
	}
	b.exec(t, `UPDATE callbacks SET status = 'given_up'`)
	if err := c.endCallback(t.Context(), job, hostOf(r.URL), result{status: statusDelivered, httpStatus: 200}); err != nil {
		t.Error(err)
	}
	b.checkCallbacks(t, "delivered after 2: 200, completed")
}

// Nothing in the corpus of addresses that are none of a client's business is
// connected to, and no callback to one is tried again (I25).
func TestRefusedAddressesAreNeverRetried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	connected := make(chan struct{}, 1)
	go func() {
		if _, err := listener.Accept(); err == nil {
			connected <- struct{}{}
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	corpus, err := os.ReadFile("../callbacks/testdata/ssrf.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(corpus)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			n++
			b.stageCallbacks(t, fmt.Sprint("acct_", n%20), fmt.Sprint("k", n, "_"), strings.ReplaceAll(line, "PORT", port), 1)
		}
	}
	once(t, b.callbackClient(t, func(c *Config) { c.Callbacks, c.Timeout = nil, 20*time.Second })) // a slow machine needs long for so many
	if got := value[int](t, b, `SELECT count(*) FROM callbacks WHERE status = 'refused' AND attempts = 1 AND last_error <> ''`); got != n || n < 300 {
		t.Errorf("%d of %d callbacks were refused at once", got, n)
	}
	if got := value[int](t, b, `SELECT count(*) FROM river.river_job WHERE attempt <> 1 OR state <> 'completed'`); got != 0 {
		t.Errorf("%d jobs were tried again, or will be", got)
	}
	select {
	case <-connected:
		t.Error("a connection was made")
	default:
	}
}

// A callback that fails for three days is given up, and so is one that River
// would not try again.
func TestCallbacksAreGivenUpAfterThreeDays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, answering(http.StatusInternalServerError))
	b.stageCallbacks(t, "acct_1", "k", r.URL, 2)
	c := b.callbackClient(t)
	once(t, c)
	b.checkCallbacks(t, "pending after 1: 500, due again")
	if got := value[string](t, b, `SELECT string_agg(DISTINCT (retry_until - created_at)::text, ' ') FROM callbacks`); got != "3 days" {
		t.Errorf("they are tried for %s", got)
	}
	b.exec(t, `UPDATE callbacks SET retry_until = now() - interval '1 second' WHERE key = 'k1'`)
	b.exec(t, `UPDATE river.river_job SET max_attempts = 2 WHERE args ->> 'key' = 'k2'`)
	b.retryNow(t)
	once(t, b.callbackClient(t))
	b.checkCallbacks(t, "given_up after 2: 500, completed")
	r.check(t, 4)
}

func TestHostsNameEndpoints(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://Example.com/a":      "example.com",
		"https://example.com.:443/":  "example.com",
		"https://example.com:8443/":  "example.com:8443",
		"http://127.0.0.1:80/":       "127.0.0.1",
		"http://127.0.0.1:443/":      "127.0.0.1:443",
		"https://[2606:4700::1111]/": "2606:4700::1111",
		"https://exa mple.com/":      "",
	} {
		if got := hostOf(url); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
