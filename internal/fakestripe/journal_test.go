package fakestripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const anyRide = "amount=2350&currency=usd&customer=cus_visa&payment_method=pm_card_visa&confirm=true&payment_method_types[]=card&metadata[ride_id]=r"

// ask serves one POST without a network.
func ask(s *Server, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, intents, strings.NewReader(anyRide))
	r.Header.Set("Authorization", "Bearer sk_test_123")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Idempotency-Key", key)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func openDir(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// slowDisk replaces the journal's disk by one that syncs only when told to.
type slowDisk struct {
	begun, done chan struct{}

	mu    sync.Mutex
	syncs int
}

func (d *slowDisk) flush() error {
	d.mu.Lock()
	d.syncs++
	d.mu.Unlock()
	d.begun <- struct{}{}
	<-d.done
	return nil
}

func onSlowDisk(t *testing.T) (*Server, *slowDisk) {
	t.Helper()
	s := openDir(t, t.TempDir())
	d := &slowDisk{begun: make(chan struct{}, 100), done: make(chan struct{})}
	s.journal.flush = d.flush
	return s, d
}

func TestNoAnswerLeavesBeforeItsEffectIsSynced(t *testing.T) {
	t.Parallel()
	s, disk := onSlowDisk(t)
	disk.wantWait(t, func() { ask(s, "k1") })
	if got := s.Charges()["r"]; got != 1 {
		t.Errorf("there are %d charges, want 1", got)
	}
}

// Whoever sees an effect, like a replay, a GET or a control, tells of it as well
// as its own answer does.
func TestNobodyIsToldOfAnEffectThatIsNotSynced(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]func(*testing.T, *Server){
		"A replay waits.": func(_ *testing.T, s *Server) { ask(s, "k1") },
		"A list waits.": func(t *testing.T, s *Server) {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/charges", nil)
			r.Header.Set("Authorization", "Bearer sk_test_123")
			s.ServeHTTP(httptest.NewRecorder(), r)
		},
		"A control waits.": func(t *testing.T, s *Server) {
			t.Helper()
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/_fake/clock", strings.NewReader(`{"advance":"0s"}`)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openDir(t, t.TempDir())
			ask(s, "k1")
			if _, err := s.underLock(func() error { return s.commit(&change{Offset: new(time.Hour)}) }); err != nil {
				t.Fatal(err)
			}
			disk := slowDisk{begun: make(chan struct{}, 100), done: make(chan struct{})}
			s.journal.flush = disk.flush
			disk.wantWait(t, func() { look(t, s) })
		})
	}
}

// wait returns when a sync has begun.
func (d *slowDisk) wait(t *testing.T) {
	t.Helper()
	select {
	case <-d.begun:
	case <-soon(t).Done():
		t.Fatal("nobody syncs")
	}
}

// wantWait checks that f returns only after a sync, which it lets end.
func (d *slowDisk) wantWait(t *testing.T, f func()) {
	t.Helper()
	returned := make(chan struct{})
	go func() {
		f()
		close(returned)
	}()
	select {
	case <-d.begun:
	case <-returned:
		t.Error("the answer left without a sync")
		return
	}
	select {
	case <-returned:
		t.Error("the answer left during the sync")
	default:
	}
	close(d.done)
	<-returned
}

// That a request has arrived, nobody is told, so nobody waits for it.
func TestAnArrivalAloneIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := openDir(t, t.TempDir())
	gate := make(chan struct{})
	s.Script(Fault{Kind: Delayed, HoldBefore: gate})
	var all sync.WaitGroup
	all.Go(func() { ask(s, "k1") })
	if err := s.WaitSends(soon(t), 1, nil); err != nil {
		t.Fatal(err)
	}
	flush := s.journal.flush
	s.journal.flush = func() error { return errors.New("synced for an arrival") }
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/_fake/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("its health is %d %s", w.Code, w.Body)
	}
	s.journal.flush = flush
	close(gate)
	all.Wait()
}

func TestConcurrentRequestsShareASync(t *testing.T) {
	t.Parallel()
	s, disk := onSlowDisk(t)
	var all sync.WaitGroup
	all.Go(func() { ask(s, "first") })
	disk.wait(t)
	const others = 50
	for i := range others {
		all.Go(func() { ask(s, strconv.Itoa(i)) })
	}
	if err := s.WaitSends(soon(t), others+1, func(x Send) bool { return x.Status == http.StatusOK }); err != nil {
		t.Fatal(err)
	}
	close(disk.done)
	all.Wait()
	if disk.syncs != 2 {
		t.Errorf("%d requests took %d syncs, want 2: one for the first, one for all who waited", others+1, disk.syncs)
	}
}

// After a failed write or sync nobody knows what is on disk, so nothing is
// answered any more.
func TestAFailingDiskStopsTheServer(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*Server){
		"A sync fails.":  func(s *Server) { s.journal.flush = func() error { return errors.New("broken disk") } },
		"A write fails.": func(s *Server) { s.journal.file = readOnly(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			file := s.journal.file
			breakIt(s)
			for range 2 {
				func() {
					defer func() {
						if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // a panic is no chain of errors
							t.Errorf("the request ended with %v, want %v", got, http.ErrAbortHandler)
						}
					}()
					ask(s, "k1")
				}()
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/_fake/healthz", nil))
			if w.Code != http.StatusServiceUnavailable {
				t.Errorf("its health is %d", w.Code)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// readOnly returns a file that refuses to be written.
func readOnly(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestATornLastLineIsCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	first := ask(s, "k1").Body.String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole := readJournal(t, dir)
	lines := strings.SplitAfter(whole, "\n")
	last := lines[len(lines)-2]
	for _, n := range []int{1, len(last) / 2, len(last) - 1} {
		writeJournal(t, dir, whole+last[:n])
		again := openDir(t, dir)
		if got := ask(again, "k1"); got.Body.String() != first || got.Header().Get("Idempotent-Replayed") != "true" {
			t.Errorf("after a torn line of %d bytes the replay is %s", n, got.Body)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readJournal(t, dir); !strings.HasPrefix(got, whole) || strings.Contains(got, last[:n]+"{") {
			t.Errorf("the torn line of %d bytes is still there", n)
		}
	}
	t.Run("A torn effect has not happened, and a retry makes it.", func(t *testing.T) {
		t.Parallel()
		torn := t.TempDir()
		writeJournal(t, torn, strings.Join(lines[:len(lines)-2], "")+last[:len(last)-1])
		s := openDir(t, torn)
		if got := s.Charges()["r"]; got != 0 {
			t.Errorf("there are %d charges, want none", got)
		}
		if sends := s.Ledger(); len(sends) != 1 || sends[0].InFlight || sends[0].Status != 0 {
			t.Errorf("the ledger shows %+v", sends)
		}
		if got := ask(s, "k1"); got.Code != http.StatusOK || got.Header().Get("Idempotent-Replayed") != "" || s.Charges()["r"] != 1 {
			t.Errorf("the retry is answered with %d %s", got.Code, got.Body)
		}
	})
}

func TestADamagedJournalIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	ask(s, "k1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(readJournal(t, dir), "\n")
	lines[1] = "{damaged\n"
	writeJournal(t, dir, strings.Join(lines, ""))
	_, err := Open(Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("the error is %v; want it to name line 2", err)
	}
}

func TestTwoServersCannotShareADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another fake Stripe") {
		t.Errorf("the error is %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
}

// Every form of state comes back from the journal as it was.
func TestARestartKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	if err := s.Advance(25 * time.Hour); err != nil {
		t.Fatal(err)
	}
	s.Script(Fault{Kind: DropAfter, Match: Match{Key: "dropped"}})
	func() {
		defer func() { _ = recover() }()
		ask(s, "dropped")
	}()
	s.Script(Fault{Kind: Unavailable503, Match: Match{Key: "refused"}})
	ask(s, "refused")
	first := ask(s, "k1").Body.String()
	ask(s, "k1")
	sends, charges, all, now := s.Ledger(), s.Charges(), s.PaymentIntents(), s.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir)
	if got := fmt.Sprintf("%+v", s.Ledger()); got != fmt.Sprintf("%+v", sends) || len(sends) != 4 {
		t.Errorf("the ledger is\n%s\nwant\n%+v", got, sends)
	}
	if got := fmt.Sprint(s.Charges()); got != fmt.Sprint(charges) || charges["r"] != 2 {
		t.Errorf("the charges are %s, want %v", got, charges)
	}
	if got := fmt.Sprintf("%+v", s.PaymentIntents()); got != fmt.Sprintf("%+v", all) {
		t.Errorf("the payment intents are\n%s\nwant\n%+v", got, all)
	}
	if drift := s.Now().Sub(now); drift < 0 || drift > time.Hour {
		t.Errorf("the clock has moved by %s", drift)
	}
	if got := ask(s, "k1").Body.String(); got != first {
		t.Errorf("the replay is %s, want %s", got, first)
	}
	if got := s.Ledger()[4].Seq; got != sends[3].Seq+1 {
		t.Errorf("the next send has the number %d after %d", got, sends[3].Seq)
	}
}

func TestResetForgetsAllButTheSeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	ask(s, "k1")
	s.Script(Fault{Kind: Unavailable503, Times: -1})
	if err := s.Advance(1000 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	check := func(s *Server) {
		if len(s.Ledger()) != 0 || len(s.Charges()) != 0 || len(s.PaymentIntents()) != 0 || time.Until(s.Now()) > time.Hour {
			t.Errorf("there are %v, %v, %v at %s", s.Ledger(), s.Charges(), s.PaymentIntents(), s.Now())
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir)
	check(s)
	if w := ask(s, "k1"); w.Code != http.StatusOK || w.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("after the reset a key is answered with %d %s", w.Code, w.Body)
	}
}

func readJournal(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeJournal(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		if _, err := Open(Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCharge(b *testing.B) {
	for name, dir := range map[string]string{"memory": "", "disk": b.TempDir()} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ask(s, newID("k"))
				}
			})
		})
	}
}
