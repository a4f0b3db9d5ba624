package commands

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// hailTo hails a ride that has a callback_url.
func (s *scene) hailTo(p *process, key, callbackURL string) answer {
	body := strings.TrimSuffix(sanFranciscoToOakland, "}") + `,"callback_url":"` + callbackURL + `"}`
	return client{apiKey: s.apiKey}.post(p, "/v1/rides", key, body)
}

// A told is what a receiver of callbacks was told, by its webhook-ids.
type told struct {
	*httptest.Server

	mu     sync.Mutex
	bodies map[string]string
	last   string
}

func newTold(t *testing.T) *told {
	t.Helper()
	r := &told{bodies: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last = string(body)
		r.bodies[request.Header.Get("webhook-id")] = r.last
	}))
	t.Cleanup(r.Close)
	return r
}

// of reports whether the receiver was told of a ride.
func (r *told) of(ride string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range r.bodies {
		if strings.Contains(body, ride) {
			return true
		}
	}
	return false
}

// A callback has the ride exactly as GET shows it, and is small even if all
// that a client can choose of it is as large as possible.
func TestACallbackIsTheRide(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := newTold(t)
	api := s.start(t, "api", "CALLBACK_ALLOW=127.0.0.0/8")
	longest := r.URL + "/?" + strings.Repeat("\U0001F695", 2048-len(r.URL+"/?"))
	key := `"` + strings.Repeat(`\"`, 100) + strings.Repeat("k", 155) + `"` // 255 characters
	check := func(event string) {
		t.Helper()
		s.must(t, "completer", "once", "--callback-allow=127.0.0.0/8")
		shown := s.read(t, api, "/v1/rides/"+text(t, s, `SELECT id FROM rides ORDER BY created_at DESC LIMIT 1`))
		r.mu.Lock()
		defer r.mu.Unlock()
		want := `"data":` + strings.TrimSuffix(shown, "\n") + `}`
		if !strings.HasPrefix(r.last, `{"type":"`+event+`","timestamp":"20`) || !strings.HasSuffix(r.last, want) {
			t.Errorf("%s: the callback is %.2000s, want it to end with %.2000s", event, r.last, want)
		}
		if len(r.last) >= 20_000 {
			t.Errorf("%s: the callback has %d bytes", event, len(r.last))
		}
	}
	if got := s.hailTo(api, key, longest); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	check("ride.charged")
	if got := s.cancel(t, api, text(t, s, `SELECT key FROM rides`), "c"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	check("ride.canceled")
	s.script(t, `[{"kind":"402","decline_code":"lost_card"}]`)
	if got := s.hailTo(api, "declined", r.URL); got.status != http.StatusPaymentRequired {
		t.Fatalf("%d %s", got.status, got.body)
	}
	check("ride.declined")
	if len(r.bodies) != 3 {
		t.Errorf("there are %d callbacks", len(r.bodies))
	}
}

// read makes a GET request that must succeed.
func (s *scene) read(t *testing.T, p *process, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.api+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.apiKey)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	return string(body)
}

// strangers are receivers that do whatever they like.
func strangers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"hangs":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"fails":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"floods": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
	}
}

// Receivers that hang, flood, redirect or fail for an hour, in which the clock
// is moved, delay no other account's callback by more than a second, and no
// ride at all: neither one that the API charges, nor one that the completer
// finishes.
func TestStrangersDelayNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	good := newTold(t)
	api := s.start(t, "api", "CALLBACK_ALLOW=127.0.0.0/8")
	s.start(t, "completer", "CALLBACK_ALLOW=127.0.0.0/8", "BACKOFF_INITIAL=200ms", "BACKOFF_MAX=200ms", "JOB_TIMEOUT=3s")
	var alone serving
	for i := range 4 {
		alone = alone.slowest(s.serve(t, api, good, fmt.Sprint("alone ", i)))
	}
	requests := s.addStrangers(t, 60)
	var all serving
	for minute := 0; minute < 60; minute += 5 {
		s.moveCallbacks(t, 5)
		// Strangers would delay every ride, and a busy machine only some.
		var beside serving
		for try := range 10 {
			beside = s.serve(t, api, good, fmt.Sprintf("minute %d.%d", minute, try))
			if beside.within(alone, time.Second) {
				break
			}
		}
		all = all.slowest(beside)
		if !beside.within(alone, time.Second) {
			t.Errorf("in minute %d a ride took %+v, alone %+v", minute, beside, alone)
		}
	}
	t.Logf("the slowest ride took %+v, alone %+v; strangers got %v", all, alone, requests())
	for name, n := range requests() {
		if n < 12 {
			t.Errorf("a receiver that %s got only %d callbacks", name, n)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM callbacks WHERE status <> 'pending' AND account_id <> $1`, s.account); n != 0 {
		t.Errorf("%d callbacks to strangers have ended", n)
	}
}

// A serving is how long two rides took: to be answered, to be told of, and, for
// one that the API doesn't finish, to be finished by the completer.
type serving struct{ hail, callback, finish time.Duration }

// slowest returns the slowest of two.
func (a serving) slowest(b serving) serving {
	return serving{hail: max(a.hail, b.hail), callback: max(a.callback, b.callback), finish: max(a.finish, b.finish)}
}

// within reports whether nothing of a took longer than in b, and a delay more.
func (a serving) within(b serving, delay time.Duration) bool {
	return a.hail <= b.hail+delay && a.callback <= b.callback+delay && a.finish <= b.finish+delay
}

// serve hails two rides under a key, the second of which the completer
// finishes.
func (s *scene) serve(t *testing.T, api *process, good *told, key string) (took serving) {
	t.Helper()
	start := time.Now()
	got := s.hailTo(api, `"`+key+`"`, good.URL)
	took.hail = time.Since(start)
	if got.status != http.StatusCreated {
		t.Fatalf("%d %s %v", got.status, got.body, got.err)
	}
	ride := strings.TrimPrefix(got.header.Get("Location"), "/v1/rides/")
	waitFor(t, key+" is told", time.Minute, func() bool { return good.of(ride) })
	took.callback = time.Since(start)
	s.script(t, `[{"kind":"503"}]`)
	start = time.Now()
	if got := s.hailTo(api, `"`+key+` later"`, good.URL); got.status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s %v", got.status, got.body, got.err)
	}
	waitFor(t, key+" is finished", time.Minute, func() bool {
		return number(t, s, `SELECT count(*) FROM idempotency_keys WHERE key = $1 || ' later' AND response_status = 201`, key) == 1
	})
	took.finish = time.Since(start)
	return took
}

// addStrangers stages n callbacks to each of the strangers, which are of
// accounts of their own. requests returns how many each has got.
func (s *scene) addStrangers(t *testing.T, n int) (requests func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	for name, behave := range strangers() {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server notices when the sender hangs up
			mu.Lock()
			got[name]++
			mu.Unlock()
			behave(w, r)
		}))
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		s.exec(t, `
			INSERT INTO accounts (id, email, stripe_customer, payment_method, livemode, callback_secret)
			VALUES ($1, 'stranger@example.com', 'cus_stranger', 'pm_card_visa', false, $2)`,
			name, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
		s.exec(t, `
			INSERT INTO staged_jobs (account_id, id, key, kind, args)
			SELECT $1, 'job_' || $1 || i, i::text, 'callback',
			       jsonb_build_object('type', 'ride.charged', 'ride_id', 'ride_' || i, 'url', $2::text, 'ride', '{}')
			FROM generate_series(1, $3) i`, name, server.URL, n)
	}
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		for name := range strangers() {
			got[name] += 0
		}
		return got
	}
}

// moveCallbacks lets minutes pass for everything that callbacks wait for.
func (s *scene) moveCallbacks(t *testing.T, minutes int) {
	t.Helper()
	s.exec(t, `
		UPDATE river.river_job
		SET scheduled_at = scheduled_at - $1 * interval '1 minute', state = CASE WHEN scheduled_at - $1 * interval '1 minute' < now() THEN 'available' ELSE state END
		WHERE kind = 'callback/1' AND state IN ('available', 'retryable', 'scheduled')`, minutes)
	// On Citus, an UPDATE takes nothing of a column that depends on the time zone of the session.
	earlier := func(column string) string {
		return column + ` = (` + column + ` AT TIME ZONE 'UTC' - $1 * interval '1 minute') AT TIME ZONE 'UTC'`
	}
	s.exec(t, `UPDATE callback_endpoints SET `+earlier("failing_since")+`, `+earlier("failed_at")+`, `+earlier("paused_until"), minutes)
	s.exec(t, `UPDATE callbacks SET `+earlier("created_at")+`, `+earlier("retry_until"), minutes)
}
