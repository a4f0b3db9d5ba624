package rides

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/limit"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// These measure what docs/limits.md states. Each is one run of a minute or two
// on a machine that does nothing else:
//
//	go test -run '^$' -bench Limits -benchtime 1x ./internal/rides

// latencies are those of many requests. It is safe for concurrent use.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) p99() time.Duration {
	slices.Sort(l.all)
	return l.all[len(l.all)*99/100]
}

// A series is what was measured in rounds with a load and in rounds without,
// which take turns.
type series struct{ alone, beside []*latencies }

// next returns where the latencies of a round go.
func (s *series) next(loaded bool) *latencies {
	took := new(latencies)
	if loaded {
		s.beside = append(s.beside, took)
	} else {
		s.alone = append(s.alone, took)
	}
	return took
}

// median returns the median of the rounds' 99th percentiles. Whatever else the
// machine does hits some rounds, and not most.
func median(rounds []*latencies) time.Duration {
	var all []time.Duration
	for _, round := range rounds {
		all = append(all, round.p99())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// report reports both, and by how much the second one differs.
func (s *series) report(b *testing.B, what string) {
	b.Helper()
	before, after := median(s.alone), median(s.beside)
	b.ReportMetric(before.Seconds()*1000, what+"-p99-alone-ms")
	b.ReportMetric(after.Seconds()*1000, what+"-p99-beside-ms")
	b.ReportMetric(100*(after.Seconds()/before.Seconds()-1), what+"-moved-%")
}

// paced starts n requests at regular intervals, whatever becomes of those
// before, and waits for all.
func paced(n int, every time.Duration, run func(i int)) {
	var group sync.WaitGroup
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		group.Go(func() { run(i) })
	}
	group.Wait()
}

// status makes a request and returns its status.
func (p *process) status(tb testing.TB, c call) int {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), c.method, p.api+c.path, strings.NewReader(c.body))
	if err != nil {
		tb.Error(err)
		return 0
	}
	request.Header = http.Header{
		"Authorization": {"Bearer " + c.as.APIKey.Reveal()}, "Content-Type": {"application/json"}, "Idempotency-Key": {c.key},
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		tb.Error(err)
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// hailing returns a function that hails a new ride of an account, and notes how
// long that took.
func (p *process) hailing(tb testing.TB, who accounts.Credentials) func(*latencies) {
	tb.Helper()
	var n atomic.Int64
	return func(took *latencies) {
		start := time.Now()
		c := call{method: "POST", path: "/v1/rides", body: aRide, key: fmt.Sprint("healthy-", n.Add(1)), as: who}
		if status := p.status(tb, c); status != http.StatusCreated {
			tb.Errorf("a healthy ride is answered %d", status)
		}
		took.add(time.Since(start))
	}
}

// BenchmarkLimitsBadAPIKeys: 10,000 requests with bad API keys come beside
// healthy ones. Seconds with and without them take turns.
func BenchmarkLimitsBadAPIKeys(b *testing.B) {
	h := newHarness(b)
	hailOne := h.hailing(b, h.visa)
	var hails series
	guesses := make([]string, 10_000)
	for i := range guesses {
		guesses[i] = "GET /v1/rides HTTP/1.1\r\nHost: rides\r\nAuthorization: Bearer " +
			accounts.NewAPIKey(accounts.NewAccountID(), false).Reveal() + "\r\n\r\n"
	}
	limited := 0
	for b.Loop() {
		for round := range 20 {
			loaded := round%2 == 1
			took := hails.next(loaded)
			var flood sync.WaitGroup
			if loaded {
				flood.Go(func() { limited += guess(b, h, guesses[round/2*1000:][:1000], 2*time.Millisecond) })
			}
			paced(100, 20*time.Millisecond, func(int) { hailOne(took) })
			flood.Wait()
		}
	}
	hails.report(b, "hail")
	b.ReportMetric(float64(limited), "refused-without-a-look")
}

// guess sends requests at regular intervals over one connection, and returns
// how many were refused with 429. It does little more than that: it runs on the
// processors of the process that it attacks.
func guess(b *testing.B, h *harness, requests []string, every time.Duration) (limited int) {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", strings.TrimPrefix(h.api, "http://"))
	if err != nil {
		b.Error(err)
		return 0
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	start := time.Now()
	for i, request := range requests {
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		if _, err := io.WriteString(conn, request); err != nil {
			b.Error(err)
			return limited
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			b.Error(err)
			return limited
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode == http.StatusTooManyRequests {
			limited++
		}
	}
	return limited
}

// stalling puts a proxy before the fake that never answers what is about an
// account, while on. Else it breaks these requests off.
func (h *harness) stalling(tb testing.TB, account string) (on func(bool)) {
	tb.Helper()
	address, err := url.Parse(h.stripe)
	if err != nil {
		tb.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(address)
	var mu sync.Mutex
	release := make(chan struct{})
	close(release)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(account)) {
			mu.Lock()
			wait := release
			mu.Unlock()
			select {
			case <-wait:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		through.ServeHTTP(w, r)
	}))
	tb.Cleanup(server.Close)
	h.stripe = server.URL
	return func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		if on {
			release = make(chan struct{})
		} else {
			close(release)
		}
	}
}

// BenchmarkLimitsPoisonedKeys: an account has 1,000 keys that are due and whose
// charges Stripe never answers. Others hail rides, and have keys that the
// completer finishes. Periods with and without take turns.
func BenchmarkLimitsPoisonedKeys(b *testing.B) {
	const rounds, perRound, poisoned = 10, 300, 1000
	h := newHarness(b)
	hailOne := h.hailing(b, h.visa)
	abandon := func(who accounts.Credentials, name string, n int) {
		h.fake.Script(fakestripe.Fault{Kind: fakestripe.DropBefore, Times: n})
		for i := range n {
			h.status(b, call{method: "POST", path: "/v1/rides", body: aRide, key: fmt.Sprint(name, "-", i), as: who})
		}
		h.exec(b, `UPDATE idempotency_keys SET run_after = now() + interval '1 year' WHERE finished_at IS NULL`)
	}
	abandon(h.declined, "poisoned", poisoned)
	for round := range rounds {
		abandon(h.second, fmt.Sprint("due-", round), perRound)
	}
	stall := h.stalling(b, h.declined.AccountID)
	other := h.startProcess(b, nil)
	h.exec(b, `CREATE TABLE due_keys (key text PRIMARY KEY, due timestamptz)`)
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	completer := phases.Completer{Engine: other.engine, Poll: time.Second, Concurrency: 64, Retention: time.Hour, Tombstones: time.Hour}
	group.Go(func() { completer.Run(ctx) })
	defer func() { cancel(); group.Wait() }()
	var hails, completions series
	for b.Loop() {
		for round := range rounds {
			name := fmt.Sprint("due-", round)
			loaded := round%2 == 1
			took, due := hails.next(loaded), completions.next(loaded)
			if loaded {
				stall(true)
				h.exec(b, `UPDATE idempotency_keys SET run_after = now() - interval '1 hour' WHERE account_id = $1`, h.declined.AccountID)
				waitForHangs(b, h)
			}
			h.exec(b, `
				WITH due AS (
				  UPDATE idempotency_keys SET run_after = now() + random() * interval '10 seconds'
				  WHERE account_id = $1 AND key LIKE $2
				  RETURNING key, run_after)
				INSERT INTO due_keys SELECT key, run_after FROM due`,
				h.second.AccountID, name+"-%")
			paced(500, 20*time.Millisecond, func(int) { hailOne(took) })
			awaitFinished(b, h, name, perRound, due)
			if loaded {
				stall(false)
				settleHangs(b, h)
			}
		}
	}
	hails.report(b, "hail")
	completions.report(b, "completed")
}

// hanging returns how many keys of the poisoned account are being worked on.
func hanging(b *testing.B, h *harness) (n int) {
	b.Helper()
	err := h.pool.QueryRow(b.Context(), `SELECT count(*) FROM idempotency_keys WHERE account_id = $1 AND lease_token IS NOT NULL`,
		h.declined.AccountID).Scan(&n)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func waitForHangs(b *testing.B, h *harness) {
	b.Helper()
	for hanging(b, h) < 33 && b.Context().Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// settleHangs waits until none of them is worked on any more.
func settleHangs(b *testing.B, h *harness) {
	b.Helper()
	for {
		h.exec(b, `UPDATE idempotency_keys SET run_after = now() + interval '1 year' WHERE account_id = $1 AND finished_at IS NULL AND lease_token IS NULL`,
			h.declined.AccountID)
		if hanging(b, h) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// awaitFinished waits until keys are finished, and notes how long after they
// were due each was.
func awaitFinished(b *testing.B, h *harness, name string, n int, took *latencies) {
	b.Helper()
	for {
		rows, err := h.pool.Query(b.Context(), `
			SELECT extract(epoch FROM k.finished_at - d.due)::float8 FROM idempotency_keys k JOIN due_keys d USING (key)
			WHERE k.account_id = $1 AND k.key LIKE $2 AND k.finished_at IS NOT NULL`, h.second.AccountID, name+"-%")
		if err != nil {
			b.Fatal(err)
		}
		var found []float64
		for rows.Next() {
			var seconds float64
			if err := rows.Scan(&seconds); err != nil {
				b.Fatal(err)
			}
			found = append(found, seconds)
		}
		if len(found) == n {
			for _, seconds := range found {
				took.add(time.Duration(seconds * float64(time.Second)))
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// BenchmarkLimitsOverAMinute: an account asks for 250 requests a second, for a
// minute, and gets what its limit of 100 says.
func BenchmarkLimitsOverAMinute(b *testing.B) {
	h := newHarness(b)
	config := h.config
	config.RateLimit = limit.Rate{PerSecond: 100, Burst: 200}
	p := h.serving(b, NewService(config).Handler())
	ask := call{method: "GET", path: "/v1/rides", as: h.visa}
	for b.Loop() {
		for p.status(b, ask) != http.StatusTooManyRequests {
			continue // until the burst is used up
		}
		var granted atomic.Int64
		paced(60*250, 4*time.Millisecond, func(int) {
			if p.status(b, ask) == http.StatusOK {
				granted.Add(1)
			}
		})
		b.ReportMetric(float64(granted.Load()), "granted-of-6000")
	}
}

// BenchmarkLimitsAtStripe: clients hail as many rides as they can for a minute,
// in a process that keeps to 25 requests a second. The fake's limit is the same.
func BenchmarkLimitsAtStripe(b *testing.B) {
	h := newHarness(b)
	h.stripeRate = 25
	p := h.startProcess(b, nil)
	h.fake.Limit(fakestripe.Limits{PerSecond: 25, PerEndpoint: 25})
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		var group sync.WaitGroup
		for client := range 40 {
			group.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					p.status(b, call{method: "POST", path: "/v1/rides", body: aRide, key: fmt.Sprint(client, "-", i), as: h.visa})
				}
			})
		}
		group.Wait()
		cancel()
		seen := h.fake.Traffic()
		b.ReportMetric(float64(len(h.fake.Ledger())), "sent-of-1500")
		b.ReportMetric(float64(seen.Busiest), "busiest-second")
		b.ReportMetric(float64(seen.Refused), "refused")
	}
}
