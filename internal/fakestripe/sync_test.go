package fakestripe

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowDisk replaces the disk of a journal. Its syncs end when the test says so.
type slowDisk struct {
	begun, done chan struct{}
	finish      func()

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
	return s, slowDown(t, s)
}

// slowDown gives the server a slow disk. When the test ends, the syncs end as
// well, so that the server can be closed.
func slowDown(t *testing.T, s *Server) *slowDisk {
	t.Helper()
	done := make(chan struct{})
	d := &slowDisk{begun: make(chan struct{}, 100), done: done, finish: sync.OnceFunc(func() { close(done) })}
	s.journal.flush = d.flush
	t.Cleanup(d.finish)
	return d
}

func TestNoAnswerLeavesBeforeItsEffectIsSynced(t *testing.T) {
	t.Parallel()
	s, disk := onSlowDisk(t)
	disk.wantWait(t, func() { ask(s, "k1") })
	if got := s.Charges()["r"]; got != 1 {
		t.Errorf("there are %d charges, want 1", got)
	}
}

// A replay, a GET and a control show an effect just as its own answer does.
func TestNothingShowsAnEffectBeforeItIsSynced(t *testing.T) {
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
			slowDown(t, s).wantWait(t, func() { look(t, s) })
		})
	}
}

// wait returns when a sync has begun.
func (d *slowDisk) wait(t *testing.T) {
	t.Helper()
	select {
	case <-d.begun:
	case <-soon(t).Done():
		t.Fatal("no sync has begun")
	}
}

// wantWait checks that f returns only after a sync has ended.
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
	d.finish()
	<-returned
}

// No answer shows that another request has arrived, so none waits for that to
// be synced.
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
	disk.finish()
	all.Wait()
	if disk.syncs != 2 {
		t.Errorf("%d requests took %d syncs, want 2: one for the first, one for all who waited", others+1, disk.syncs)
	}
}

// After a failed write or sync it is unknown what is on disk, so the server
// answers no more.
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

// readOnly returns a file that cannot be written.
func readOnly(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
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
