package fakestripe

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
	t.Run("A torn effect has not happened, and a retry has it.", func(t *testing.T) {
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

// A restart reads the whole state from the journal.
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
	sends, charges, all, now := s.Ledger(), s.Charges(), s.PaymentIntents(), s.clock()
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
	if drift := s.clock().Sub(now); drift < 0 || drift > time.Hour {
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
	if err := s.reset(); err != nil {
		t.Fatal(err)
	}
	check := func(s *Server) {
		if len(s.Ledger()) != 0 || len(s.Charges()) != 0 || len(s.PaymentIntents()) != 0 || time.Until(s.clock()) > time.Hour {
			t.Errorf("there are %v, %v, %v at %s", s.Ledger(), s.Charges(), s.PaymentIntents(), s.clock())
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
