package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// simulate runs the program for a while and returns its exit code and verdict.
func simulate(t *testing.T, api, key, stripe string, args ...string) (int, verdict, string) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"--api-url", api, "--api-key", key, "--stripe-url", stripe, "--pace=20ms", "--json"}, args...)
	code := Run(t.Context(), args, &out, &errs)
	var v verdict
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("exit %d, %v: %s%s", code, err, &out, &errs)
	}
	return code, v, errs.String()
}

// untilEnough runs a simulation again until enough has happened in one, as run
// reports. That is a matter of chance, and on a busy machine riders are slow.
func untilEnough(t *testing.T, run func() bool) {
	t.Helper()
	const tries = 5
	for range tries {
		if run() || t.Failed() {
			return
		}
	}
	t.Errorf("in none of %d simulations enough has happened", tries)
}

// Riders in trouble, and Stripe in trouble: every ride is charged once.
func TestRidersInTroublePayOnce(t *testing.T) {
	t.Parallel()
	untilEnough(t, func() bool {
		service := ridestest.Start(t)
		service.Stripe.Script(
			fakestripe.Fault{Kind: fakestripe.Declined402, Times: 5, Skip: 3},
			fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 5, Skip: 10},
			fakestripe.Fault{Kind: fakestripe.DropBefore, Times: 5, Skip: 20},
			fakestripe.Fault{Kind: fakestripe.Unsaved500, Times: 5, Skip: 30},
			fakestripe.Fault{Kind: fakestripe.BadGateway502, Times: 5, Skip: 40},
		)
		code, v, said := simulate(t, service.URL, service.APIKey, service.StripeURL, "--riders=8", "--duration=4s", "--settle=60s")
		if code != 0 || !v.OK || v.Doubles != 0 || v.Lost != 0 || v.Contradictions != 0 || len(v.Findings) != 0 {
			t.Errorf("exit %d, %+v: %s", code, v, said)
		}
		charges := 0
		for _, n := range service.Stripe.Charges() {
			charges += n
		}
		if v.Refunds != v.Canceled || v.Charges != v.Charged || v.Charges != charges || v.Rides != v.Charged+v.Declines || v.P99 < v.P50 {
			t.Errorf("the figures don't agree: %+v, and Stripe has %d charges", v, charges)
		}
		if !strings.Contains(said, "requests") {
			t.Errorf("nothing was shown: %q", said)
		}
		t.Logf("%+v", v)
		return v.Rides >= 10 && v.Retries > 0 && v.Replays > 0 && v.Declines > 0 && v.Canceled > 0 && v.P50 > 0
	})
}

// The canary: Stripe forgets every key at once, so a second send charges a
// second time. The simulator must find that.
func TestAForgetfulStripeIsFound(t *testing.T) {
	t.Parallel()
	service := ridestest.StartWith(t, func(fake *fakestripe.Server) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				if err := fake.Advance(25 * time.Hour); err != nil {
					t.Error(err)
				}
			}
			fake.ServeHTTP(w, r)
		})
	})
	service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.DropAfter, Times: 3})
	code, v, said := simulate(t, service.URL, service.APIKey, service.StripeURL, "--riders=4", "--duration=2s", "--settle=60s")
	if code != 1 || v.OK || v.Doubles == 0 || !strings.Contains(strings.Join(v.Findings, "\n"), "charged") {
		t.Errorf("exit %d, %+v: %s", code, v, said)
	}
}

// A broken is a service, and its Stripe, that is wrong in one way.
type broken struct {
	answer func(n int, key string) (status int, ride string, charge string)

	// cancel reports whether a cancel refunds; nil always does.
	cancel func() bool

	mu               sync.Mutex
	sent             map[string]int
	charges, refunds map[string]int
}

func newBroken(answer func(n int, key string) (status int, ride, charge string)) *broken {
	return &broken{answer: answer, sent: map[string]int{}, charges: map[string]int{}, refunds: map[string]int{}}
}

// once charges each key once.
func once(n int, key string) (status int, ride, charge string) {
	if n > 1 {
		return http.StatusCreated, "ride_" + key, ""
	}
	return http.StatusCreated, "ride_" + key, "ride_" + key
}

// ServeHTTP implements http.Handler: the API and Stripe's ledger.
func (b *broken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/_fake/charges":
		counts := map[string]tally{}
		for ride, n := range b.charges {
			counts[ride] = tally{Succeeded: n, Refunded: b.refunds[ride]}
		}
		if err := json.NewEncoder(w).Encode(counts); err != nil {
			panic(err)
		}
	case strings.HasSuffix(r.URL.Path, "/cancel"):
		ride := path.Base(path.Dir(r.URL.Path))
		if b.cancel == nil || b.cancel() {
			b.refunds[ride] = 1
		}
		fmt.Fprintf(w, `{"id":%q,"object":"ride","status":"canceled"}`, ride)
	case r.Method == http.MethodGet && r.URL.Path == "/v1/rides":
		key := r.URL.Query().Get("idempotency_key")
		if b.sent[key] == 0 {
			fmt.Fprint(w, `{"object":"list","data":[],"has_more":false}`)
			return
		}
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"ride_%s","object":"ride","status":"declined"}],"has_more":false}`, key)
	case r.Method == http.MethodPost:
		key := r.Header.Get("Idempotency-Key")
		b.sent[key]++
		status, ride, charge := b.answer(b.sent[key], key)
		if charge != "" {
			b.charges[charge]++
		}
		if status == http.StatusPaymentRequired {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"status":402,"title":"Card declined","code":"card_declined","retryable":false}`)
			return
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"id":%q,"object":"ride","status":"charged"}`, ride)
	default:
		http.NotFound(w, r)
	}
}

func TestABrokenServiceIsFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(n int, key string) (status int, ride, charge string)
		found  func(v verdict) bool
		cancel func() bool
	}{
		"it says canceled and refunds nothing": {
			once, func(v verdict) bool { return v.Lost > 0 && v.Doubles == 0 && v.Contradictions == 0 }, func() bool { return false },
		},
		"it charges for each request": {
			func(_ int, key string) (int, string, string) { return 201, "ride_" + key, "ride_" + key },
			func(v verdict) bool { return v.Doubles > 0 && v.Lost == 0 && v.Contradictions == 0 }, nil,
		},
		"it charges a ride that nobody sees": {
			func(_ int, key string) (int, string, string) { return 201, "ride_" + key, "other_" + key },
			func(v verdict) bool { return v.Doubles > 0 && v.Lost > 0 }, nil,
		},
		"it says charged and is not": {
			func(_ int, key string) (int, string, string) { return 201, "ride_" + key, "" },
			func(v verdict) bool { return v.Lost >= v.Rides && v.Doubles == 0 }, nil,
		},
		"it says declined and charges": {
			func(n int, key string) (int, string, string) {
				if n > 1 {
					return 402, "", ""
				}
				return 402, "", "ride_" + key
			},
			func(v verdict) bool { return v.Contradictions > 0 && v.Doubles == 0 }, nil,
		},
		"it answers a retry differently": {
			func(n int, key string) (int, string, string) {
				if n > 1 {
					return 201, fmt.Sprintf("ride_%s_%d", key, n), ""
				}
				return 201, "ride_" + key, "ride_" + key
			},
			func(v verdict) bool { return v.Contradictions > 0 }, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			untilEnough(t, func() bool {
				b := newBroken(test.answer)
				b.cancel = test.cancel
				server := httptest.NewServer(b)
				t.Cleanup(server.Close)
				code, v, said := simulate(t, server.URL, "rr_test_x", server.URL, "--riders=10", "--duration=1s", "--settle=10s")
				if len(v.Findings) == 0 { // nobody has canceled, or asked twice
					return false
				}
				if code != 1 || v.OK || !test.found(v) || !strings.Contains(said, "not every ride was charged exactly once") {
					t.Errorf("exit %d, %+v: %s", code, v, said)
				}
				return true
			})
		})
	}
}

// right is a service that charges once.
func right(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(newBroken(once))
	t.Cleanup(server.Close)
	return server
}

// The same stub, but right: it is the faults above that are found, not the
// stub.
func TestARightServiceIsNotBlamed(t *testing.T) {
	t.Parallel()
	untilEnough(t, func() bool {
		server := right(t)
		code, v, said := simulate(t, server.URL, "rr_test_x", server.URL, "--riders=10", "--duration=1s", "--settle=10s")
		if v.Charged > 0 && (code != 0 || !v.OK || v.Charges != v.Rides || v.Refunds != v.Canceled) {
			t.Errorf("exit %d, %+v: %s", code, v, said)
		}
		return v.Canceled > 0
	})
}

// The settings come from the environment as `sandbox env` prints it, and the
// verdict is for people.
func TestTheEnvironmentIsEnough(t *testing.T) {
	server := right(t)
	t.Setenv("API_URL", server.URL)
	t.Setenv("API_KEY", "rr_test_x")
	t.Setenv("STRIPE_URL", server.URL)
	untilEnough(t, func() bool {
		var out, errs bytes.Buffer
		code := Run(t.Context(), []string{"--riders=3", "--duration=300ms", "--pace=10ms"}, &out, &errs)
		if strings.Contains(errs.String(), errNoneCharged.Error()) {
			return false
		}
		for _, want := range []string{" refunds in the ledger\n", "0 doubles, 0 lost, ", "every ride was charged exactly once"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("exit %d, and %q is missing: %s%s", code, want, &out, &errs)
			}
		}
		if code != 0 || strings.Contains(errs.String(), "rr_test_x") {
			t.Errorf("exit %d: %s", code, &errs)
		}
		return true
	})
}

// The simulator itself gives Stripe faults, of every kind that the fake knows by
// its name.
func TestStripeGetsFaults(t *testing.T) {
	t.Parallel()
	fake, err := fakestripe.Open(fakestripe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake)
	t.Cleanup(func() { _ = fake.Close(); server.Close() })
	for _, fault := range faults() {
		var answer any
		if err := (ledger{url: server.URL}).ask(t.Context(), http.MethodPost, "/_fake/faults", fault, &answer); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
	struck := map[fakestripe.Kind]bool{}
	untilEnough(t, func() bool {
		service := ridestest.Start(t)
		code, v, said := simulate(t, service.URL, service.APIKey, service.StripeURL, "--riders=4", "--duration=3s", "--settle=60s", "--faults=50ms")
		if code != 0 || !v.OK {
			t.Errorf("exit %d, %+v: %s", code, v, said)
		}
		for _, send := range service.Stripe.Ledger() {
			if send.Fault != "" {
				struck[send.Fault] = true
			}
		}
		t.Logf("these struck: %v", struck)
		return len(struck) >= 5
	})
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"nobody rides": {"--riders=0"}, "for no time": {"--duration=0s"}, "fewer faults than none": {"--faults=-1s"}, "no URL": {"--api-url=rides"},
	} {
		var errs bytes.Buffer
		all := append([]string{"--api-url=http://127.0.0.1:1", "--api-key=k", "--stripe-url=http://127.0.0.1:1"}, args...)
		if name == "no URL" {
			server := httptest.NewServer(&broken{})
			t.Cleanup(server.Close)
			all = append(all, "--stripe-url="+server.URL)
		}
		if code := Run(t.Context(), all, io.Discard, &errs); code != 2 {
			t.Errorf("%s: exit %d: %s", name, code, &errs)
		}
	}
}

func TestAnAPIThatRefusesTheKeyEndsTheSimulation(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	var errs bytes.Buffer
	args := []string{"--api-url", service.URL, "--api-key", "rr_test_wrong", "--stripe-url", service.StripeURL}
	if code := Run(t.Context(), args, io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "unauthenticated") {
		t.Errorf("exit %d: %s", code, &errs)
	}
}

// A terminal is drawn on; a file gets lines.
func TestTheDisplayFitsItsPlace(t *testing.T) {
	t.Parallel()
	file, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if isTerminal(file) || isTerminal(new(bytes.Buffer)) {
		t.Error("a file is a terminal")
	}
	s := &simulation{command: &command{Riders: 7, Duration: time.Second}, book: newBook(), line: newLine()}
	s.book.suffer(crashed)
	if got := strings.Join(s.live(), "\n"); !strings.Contains(got, "7 riders") || !strings.Contains(got, "1 crashes") {
		t.Errorf("it shows %s", got)
	}
	s.show(file)()
	text, err := os.ReadFile(file.Name())
	if err != nil || strings.Contains(string(text), "\x1b") || strings.Count(string(text), "\n") != 1 {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// Charges that name no ride are nobody's, also if a rider doesn't know the ride
// of a wish.
func TestChargesWithoutARideAreNobodys(t *testing.T) {
	t.Parallel()
	s := &simulation{command: new(command), book: newBook(), line: newLine()}
	s.book.told(s.book.begin(client.NewRide{Key: client.NewKey()}), outcomeDeclined, "")
	s.book.told(s.book.begin(client.NewRide{Key: client.NewKey()}), outcomeCharged, "ride_1")
	v := s.judge(map[string]tally{"": {Succeeded: 1}}, map[string]tally{"": {Succeeded: 1}, "ride_1": {Succeeded: 1}})
	if !v.OK || v.Charges != 1 {
		t.Errorf("an old charge is blamed: %+v", v)
	}
	v = s.judge(map[string]tally{"": {Succeeded: 1}}, map[string]tally{"": {Succeeded: 2}, "ride_1": {Succeeded: 1}})
	if v.OK || v.Doubles != 1 || v.Contradictions != 0 {
		t.Errorf("a new charge is not found: %+v", v)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	if quantile(nil, 99) != 0 || quantile(hundred, 50) != 50 || quantile(hundred, 99) != 99 || quantile(hundred[:1], 50) != 1 {
		t.Errorf("got %d, %d, %d", quantile(hundred, 50), quantile(hundred, 99), quantile(hundred[:1], 50))
	}
}
