package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A gateway stands between client and service, and spoils the first requests.
type gateway struct {
	service *ridestest.Service
	faults  []fault
	got     atomic.Int64
}

// A fault answers a request. forward has the service answer it.
type fault func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(g.got.Add(1)) - 1
	if n < len(g.faults) {
		g.faults[n](w, r, g.service.Handler)
		return
	}
	g.service.Handler.ServeHTTP(w, r)
}

// newClient returns a client that waits no more than a moment.
func newClient(t *testing.T, url, key string, change ...func(*client.Config)) *client.Client {
	t.Helper()
	config := client.Config{URL: url, APIKey: key, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, set := range change {
		set(&config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	c.OnPause(func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	return c
}

// Whatever happens to the first requests, over real sockets, the ride is
// charged once.
func TestARideIsChargedOnceThroughAnyTrouble(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	answered := func(r *http.Request, forward http.Handler) string {
		recorder := httptest.NewRecorder()
		forward.ServeHTTP(recorder, r)
		return recorder.Body.String()
	}
	own := func(answer http.HandlerFunc) fault {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) { answer(w, r) }
	}
	before := own(reset)
	after := func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		answered(r, forward)
		reset(w, r)
	}
	halfway := func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		body := answered(r, forward)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		fmt.Fprint(w, body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		reset(w, r)
	}
	for name, test := range map[string]struct {
		faults   []fault
		replayed bool
	}{
		"a reset before the service acts": {[]fault{before}, false},
		"a reset after the service acted": {[]fault{after}, true},
		"half an answer":                  {[]fault{halfway}, true},
		"503 with Retry-After":            {[]fault{own(problem(503, client.CodeUnavailable, true, "1"))}, false},
		"a proxy's page":                  {[]fault{own(page(http.StatusBadGateway))}, false},
		"429":                             {[]fault{own(problem(429, client.CodeRateLimited, true, "1"))}, false},
		"409 while the key is in use":     {[]fault{own(problem(409, client.CodeIdempotencyKeyInUse, true, "1"))}, false},
		"all of it":                       {[]fault{before, own(page(502)), after, before, halfway, own(page(504))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &gateway{service: service, faults: test.faults}
			server := httptest.NewServer(g)
			t.Cleanup(server.Close)
			answer, err := newClient(t, server.URL, service.APIKey).Create(t.Context(), aRide)
			if err != nil || answer.Replayed != test.replayed || answer.Attempts != len(test.faults)+1 {
				t.Fatalf("got %+v, %v", answer, err)
			}
			if n := service.Stripe.Charges()[answer.Ride.ID]; n != 1 || answer.Ride.Status != client.StatusCharged {
				t.Errorf("the ride is %s and has %d charges", answer.Ride.Status, n)
			}
		})
	}
}

// At first nobody listens; then the service comes up.
func TestAnAPIThatComesUpLaterIsFound(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "http://"+address, service.APIKey)
	c.OnPause(func(ctx context.Context, _ time.Duration) error {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: service.Handler}} //nolint:gosec // a test's server needs no time-outs
		server.Start()
		t.Cleanup(server.Close)
		return nil
	})
	answer, err := c.Create(t.Context(), aRide)
	if err != nil || answer.Attempts != 2 || service.Stripe.Charges()[answer.Ride.ID] != 1 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

// The first client dies while Stripe is asked. The second has its key, and asks
// until the first one's request has ended.
func TestAClientThatCrashedGoesOnWithItsKey(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	gate := make(chan struct{})
	service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
	ride := aRide
	ride.Key = client.NewKey()
	ctx, crash := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := newClient(t, service.URL, service.APIKey).Create(ctx, ride)
		ended <- err
	}()
	if err := service.Stripe.WaitSends(t.Context(), 1, func(s fakestripe.Send) bool { return s.Method == http.MethodPost }); err != nil {
		t.Fatal(err)
	}
	crash()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that crashed got %v", err)
	}
	second := newClient(t, service.URL, service.APIKey, func(c *client.Config) { c.Retry = client.Retry{Max: 400, Budget: client.NewBudget(400, 0)} })
	var waits []time.Duration
	second.OnPause(func(ctx context.Context, d time.Duration) error {
		if waits = append(waits, d); len(waits) == 1 {
			close(gate)
			// The answer is there when Stripe's is: the next request may still
			// be told to wait.
		}
		return waitALittle(ctx)
	})
	answer, err := second.Create(t.Context(), ride)
	if err != nil || answer.Key != ride.Key || service.Stripe.Charges()[answer.Ride.ID] != 1 {
		t.Errorf("got %+v, %v", answer, err)
	}
	if len(waits) == 0 || waits[0] < time.Second {
		t.Errorf("the pauses are %v: the request was not in use", waits)
	}
}

// waitALittle is for a test that polls.
func waitALittle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

func TestADeclinedCardIsAskedOnce(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.Declined402, DeclineCode: "lost_card"})
	g := &gateway{service: service}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, service.APIKey, documented(t))
	_, err := c.Create(t.Context(), aRide)
	failure, found := failed(t, err)
	if found.Code != client.CodeCardDeclined || found.DeclineCode != "lost_card" || !found.SafeNewKey || g.got.Load() != 1 {
		t.Fatalf("%d requests: %v", g.got.Load(), err)
	}
	ride := aRide
	ride.Key = failure.Key
	_, err = c.Create(t.Context(), ride)
	if _, again := failed(t, err); !again.Replayed || again.RequestID != found.RequestID {
		t.Errorf("asked again: %+v", again)
	}
	for ride, err := range c.List(t.Context(), client.ListOptions{Key: failure.Key}) {
		if err != nil || ride.Status != client.StatusDeclined || ride.Failure == nil || ride.Failure.Code != found.Code {
			t.Errorf("the ride is %+v, %v", ride, err)
		}
	}
	if n := len(service.Stripe.Charges()); n != 0 {
		t.Errorf("%d charges", n)
	}
	ride.Key, ride.Target.Lat = "", 91
	_, err = c.Create(t.Context(), ride)
	if _, found := failed(t, err); found.Code != client.CodeInvalidParameters || len(found.Errors) != 1 || found.Errors[0].Pointer != "/target/lat" || g.got.Load() != 4 {
		t.Errorf("%d requests: %+v", g.got.Load(), found)
	}
}

// documented has every request and answer compared with the OpenAPI document.
func documented(t *testing.T) func(*client.Config) {
	t.Helper()
	return func(c *client.Config) { c.Transport = apitest.Transport{T: t} }
}

// A ride from its hail to its cancel, asynchronously.
func TestTheLifeOfARide(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	c := newClient(t, service.URL, service.APIKey, documented(t))
	ride := aRide
	ride.Async = true
	answer, err := c.Create(t.Context(), ride)
	if err != nil || !answer.Pending || answer.Ride.Status != client.StatusPending {
		t.Fatalf("got %+v, %v", answer, err)
	}
	charged, err := c.Wait(t.Context(), answer.Ride.ID)
	if err != nil || charged.Status != client.StatusCharged || charged.Charge == nil || charged.IdempotencyKey != answer.Key {
		t.Fatalf("got %+v, %v", charged, err)
	}
	canceled, err := c.Cancel(t.Context(), charged.ID, "")
	if err != nil || canceled.Ride.Status != client.StatusCanceled || canceled.Ride.Refund == nil || canceled.Ride.Refund.Status != client.RefundSucceeded || canceled.Pending {
		t.Fatalf("got %+v, %v", canceled, err)
	}
	read, err := c.Get(t.Context(), charged.ID)
	if err != nil || !reflect.DeepEqual(read, canceled.Ride) {
		t.Errorf("got %+v, %v, want %+v", read, err, canceled.Ride)
	}
	again, err := c.Cancel(t.Context(), charged.ID, canceled.Key)
	if err != nil || !again.Replayed || !reflect.DeepEqual(again.Ride, canceled.Ride) {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// TestTheDocumentHasTheClientsPauses: those who write a client of their own
// find there what this one does.
func TestTheDocumentHasTheClientsPauses(t *testing.T) {
	t.Parallel()
	checker, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	retry, err := client.Retry{}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	documented, _ := checker.Doc().Extensions["x-retry"].(map[string]any)
	for name, pause := range map[string]time.Duration{"initial": retry.Initial, "max": retry.MaxPause} {
		if got, want := fmt.Sprint(documented[name]), fmt.Sprintf("PT%gS", pause.Seconds()); got != want {
			t.Errorf("x-retry has %s for %s, the client %s", got, name, want)
		}
	}
}
