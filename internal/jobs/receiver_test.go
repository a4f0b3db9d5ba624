package jobs

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// aSecret is the callback secret of every account in these tests.
var aSecret = "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))

// A receiver is a client's own server. It remembers what it got.
type receiver struct {
	*httptest.Server

	mu  sync.Mutex
	got []received
}

// received is a request that a receiver got.
type received struct {
	id, path, body string
	header         http.Header
}

// newReceiver starts a receiver that answers by answer, which is called for one
// request at a time. nil is 200.
func newReceiver(t *testing.T, answer func(w http.ResponseWriter, r received)) *receiver {
	t.Helper()
	s := new(receiver)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		got := received{id: r.Header.Get("webhook-id"), path: r.URL.Path, body: string(body), header: r.Header}
		s.got = append(s.got, got)
		if answer != nil {
			answer(w, got)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// answering answers every request with a status and a header.
func answering(status int, header ...string) func(http.ResponseWriter, received) {
	return func(w http.ResponseWriter, _ received) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func (s *receiver) requests() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

// check checks how many requests the receiver got, and returns them.
func (s *receiver) check(t *testing.T, want int) []received {
	t.Helper()
	got := s.requests()
	if len(got) != want {
		t.Fatalf("the receiver got %d requests, want %d", len(got), want)
	}
	return got
}

// verify is what a receiver does with the reference library of Standard
// Webhooks.
func (r received) verify(secret string) error {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return webhook.Verify([]byte(r.body), r.header)
}

// loopback allows callbacks to the receivers of tests.
func loopback(c *Config) {
	c.Callbacks = callbacks.NewGuard(netip.MustParsePrefix("127.0.0.0/8"))
	c.CallbackConcurrency = 64
}

// callbackClient returns a client that delivers callbacks, to loopback too.
func (b *bundle) callbackClient(t *testing.T, options ...option) *Client {
	t.Helper()
	c, err := NewClient(b.config(t, nil, append([]option{loopback}, options...)...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// addAccount makes an account, unless there is one.
func (b *bundle) addAccount(t *testing.T, account string) {
	t.Helper()
	b.exec(t, `INSERT INTO accounts (id, email, stripe_customer, payment_method, livemode, callback_secret)
		VALUES ($1, $1 || '@example.com', 'cus_1', 'pm_1', false, $2) ON CONFLICT DO NOTHING`, account, aSecret)
}

// aRide is the ride of every callback in these tests, as its body has it.
const aRide = `{"id":"ride_1","status":"charged","note":"<&>"}`

// stageCallbacks stages n callbacks of an account to a URL. Their keys begin
// with prefix.
func (b *bundle) stageCallbacks(t *testing.T, account, prefix, url string, n int) {
	t.Helper()
	b.addAccount(t, account)
	request := http.Header{"X-Traceability-Id": {"from the client"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	b.exec(t, `
		INSERT INTO staged_jobs (account_id, id, key, kind, args, trace)
		SELECT $1, 'job_' || $2 || i, $2 || i, 'callback',
		       jsonb_build_object('type', 'ride.charged', 'ride_id', 'ride_' || i, 'url', $3::text, 'ride', $4::text),
		       $6
		FROM generate_series(1, $5) i`, account, prefix, url, aRide+"\n", n, trace.Stored(trace.FromHeader(t.Context(), request)))
}

// decoded returns a job of River's table as its worker gets it.
func decoded[J Job](t *testing.T, args string) delivery[J] {
	t.Helper()
	var job delivery[J]
	if err := json.Unmarshal([]byte(args), &job); err != nil {
		t.Fatal(err)
	}
	return job
}

// once does a round.
func once(t *testing.T, c *Client) Counts {
	t.Helper()
	counts, err := c.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// retryNow makes every job due that waits for its next attempt.
func (b *bundle) retryNow(t *testing.T) {
	t.Helper()
	b.exec(t, `UPDATE river.river_job SET state = 'available', scheduled_at = now() WHERE state IN ('retryable', 'scheduled', 'available')`)
}

// checkCallbacks checks how many callbacks there are of each kind, as status,
// attempts, what the last attempt came to, and the state of the job.
func (b *bundle) checkCallbacks(t *testing.T, want string) {
	t.Helper()
	got := value[string](t, b, `
		SELECT coalesce(string_agg(DISTINCT format('%s after %s: %s, %s', c.status, c.attempts,
		         coalesce(c.last_status::text, c.last_error, 'nothing'),
		         CASE WHEN j.state IN ('available', 'retryable', 'scheduled') THEN 'due again' ELSE j.state::text END), '; '), 'none')
		FROM callbacks c LEFT JOIN river.river_job j ON j.args ->> 'account_id' = c.account_id AND j.args ->> 'id' = c.job_id`)
	if got != want {
		t.Errorf("the callbacks are %q, want %q", got, want)
	}
}

// eventuallyDelivered waits until n callbacks of an account are delivered, and
// returns how long that took.
func (b *bundle) eventuallyDelivered(t *testing.T, account string, n int) time.Duration {
	t.Helper()
	start := time.Now()
	pgtest.Eventually(t, fmt.Sprint(n, " callbacks of ", account, " are delivered"), func() bool {
		return value[int](t, b, `SELECT count(*) FROM callbacks WHERE account_id = $1 AND status = 'delivered'`, account) >= n
	})
	return time.Since(start)
}

// A stranger is a receiver that does whatever it likes.
type stranger struct {
	*httptest.Server
	busy chan struct{} // gets a value for each of the first requests
}

func newStranger(t *testing.T, handler http.HandlerFunc) *stranger {
	t.Helper()
	s := &stranger{busy: make(chan struct{}, 8)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices when the sender hangs up
		select {
		case s.busy <- struct{}{}:
		default:
		}
		handler(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// await waits until the stranger has got as many callbacks as an account may
// have on their way.
func (s *stranger) await(t *testing.T) {
	t.Helper()
	for range cap(s.busy) {
		select {
		case <-s.busy:
		case <-time.After(time.Minute):
			t.Fatal("the stranger gets too few callbacks")
		}
	}
}
