package fakestripe

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crashDir names the environment variable that makes this test binary a fake
// Stripe on that directory instead of a test run.
const crashDir = "FAKESTRIPE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, serve(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve runs a fake Stripe until it is killed.
func serve(dir string) error {
	s, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	return (&http.Server{Handler: s, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

// child is a fake Stripe that can be killed and started again.
type child struct {
	dir string

	mu      sync.Mutex
	process *exec.Cmd
	url     string
}

func (c *child) start(t *testing.T) {
	t.Helper()
	command := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // it is this test
	command.Env = append(os.Environ(), crashDir+"="+c.dir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the fake Stripe did not start: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process, c.url = command, strings.TrimSpace(line)
}

// kill ends the child with SIGKILL.
func (c *child) kill(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.process.Wait() // it says that the child was killed
}

func (c *child) address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.url
}

// rides is what the clients of the crash test have seen.
type rides struct {
	child    *child
	answered atomic.Int64

	mu    sync.Mutex
	first map[string]reply // by key
	sends map[string]int   // by key: how many were answered
}

// form returns the form of a ride. Every fifth ride is declined.
func (*rides) form(i int) string {
	if i%5 == 0 {
		return hail(fmt.Sprint("ride_", i), "customer", "cus_declined", "payment_method", "pm_declined")
	}
	return hail(fmt.Sprint("ride_", i))
}

// ride sends one ride until it has been answered twice.
func (r *rides) ride(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	key := fmt.Sprint("key_", i)
	for answers := 0; answers < 2; {
		if ctx.Err() != nil {
			t.Errorf("%s was not answered in time", key)
			return
		}
		got, err := try(t, http.MethodPost, r.child.address()+intents, key, r.form(i))
		if err != nil || got.status == http.StatusConflict {
			continue
		}
		answers++
		r.answered.Add(1)
		r.check(t, key, got)
	}
}

// check compares an answer with the first one to its key.
func (r *rides) check(t *testing.T, key string, got reply) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sends[key]++
	first, known := r.first[key]
	if !known {
		r.first[key] = got
		return
	}
	if got.status != first.status || got.body != first.body || got.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%s: the replay is %d %s (%v), the first was %d %s", key, got.status, got.body, got.header, first.status, first.body)
	}
}

// A kill -9 during concurrent requests loses nothing that was answered, and
// executes nothing twice.
func TestAKillLosesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	const clients, each, kills = 8, 15, 6
	c := &child{dir: t.TempDir()}
	c.start(t)
	t.Cleanup(func() { c.kill(t) })
	r := &rides{child: c, first: map[string]reply{}, sends: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for i := range each {
				r.ride(ctx, t, client*each+i)
			}
		})
	}
	for n := range kills {
		// Each kill comes after a number of answers, so that requests are in
		// flight then.
		for r.answered.Load() < int64((n+1)*clients*each*2/(kills+1)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		c.kill(t)
		c.start(t)
	}
	all.Wait()
	r.audit(t, clients*each)
}

// audit opens the journal in a new fake, and compares its state with the
// answers that the clients got.
func (r *rides) audit(t *testing.T, n int) {
	t.Helper()
	r.child.kill(t)
	s, err := Open(Options{Dir: r.child.dir})
	if err != nil {
		t.Fatal(err)
	}
	sends := map[string]int{}
	for _, send := range s.Ledger() {
		sends[send.Key]++
		if send.InFlight {
			t.Errorf("after a restart a send is still in flight: %+v", send)
		}
	}
	charges, byID := s.Charges(), map[string]PaymentIntent{}
	for _, pi := range s.PaymentIntents() {
		byID[pi.ID] = pi
	}
	if len(byID) != n {
		t.Errorf("there are %d payment intents for %d rides", len(byID), n)
	}
	for i := range n {
		ride, key := fmt.Sprint("ride_", i), fmt.Sprint("key_", i)
		first, want, id := r.first[key], 1, r.first[key].get("id")
		if i%5 == 0 {
			want, id = 0, first.get("error.payment_intent.id")
		}
		if pi, known := byID[id]; !known || pi.Metadata["ride_id"] != ride {
			t.Errorf("%s: the answered payment intent %s is lost", ride, id)
		}
		if charges[ride] != want {
			t.Errorf("%s has %d succeeded charges, want %d", ride, charges[ride], want)
		}
		if sends[key] < r.sends[key] {
			t.Errorf("%s: the ledger has %d sends, but %d were answered", key, sends[key], r.sends[key])
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	r.child.start(t) // the clean-up kills it
}
