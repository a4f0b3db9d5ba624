package main

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestTheStubIsBelieved asks the stub as the service does.
func TestTheStubIsBelieved(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := fasthttp.Server{Handler: new(stubStripe).answer}
	go server.Serve(listener) //nolint:errcheck // it ends with its listener
	t.Cleanup(func() { _ = server.Shutdown() })
	stripe, err := payments.NewStripe(payments.Config{Key: stripeKey, URL: "http://" + listener.Addr().String(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]payments.ChargeStatus{
		"pm_card_visa": payments.ChargeSucceeded, "pm_card_chargeDeclined": payments.ChargeDeclined,
	} {
		operation := strings.Repeat("ab", 32)
		form := payments.NewChargeForm(payments.ChargeTerms{
			Amount: 2350, Currency: "usd", Customer: "cus_bench", PaymentMethod: method, Description: "Ride ride_1",
			RideID: "ride_1", AccountID: "acct_1", Operation: operation,
		})
		charge, err := stripe.Charge(t.Context(), phases.Sent[payments.ChargeForm]{Key: operation, FirstSentAt: time.Now(), First: true, Form: form})
		if err != nil || charge.Status != want {
			t.Errorf("%s: got %+v (%v), want status %v", method, charge, err, want)
		}
	}
}

// TestAnOpenLoopWaitsForNobody: requests are sent while no answer comes, and
// their latency counts from when they were to be sent.
func TestAnOpenLoopWaitsForNobody(t *testing.T) {
	t.Parallel()
	const stalled = 20
	arrived, gate := make(chan struct{}, 1000), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-gate
	}))
	defer server.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, done := new(recorder), make(chan struct{})
	go func() {
		l := load{server.Listener.Addr().String(), func() call { return call{method: http.MethodGet, path: "/"} }}
		l.openLoop(ctx, 200, r)
		close(done)
	}()
	began := time.Now()
	for range stalled {
		<-arrived
	}
	stop()
	held := time.Now()
	close(gate)
	<-done
	samples := r.between(began, time.Now())
	if len(samples) < stalled {
		t.Fatalf("there are %d samples, want at least %d", len(samples), stalled)
	}
	slices.SortFunc(samples, func(a, b sample) int { return int(b.latency - a.latency) })
	if longest := samples[0].latency; longest < held.Sub(began)/2 {
		t.Errorf("the longest latency is %s, although the server answered nobody for %s", longest, held.Sub(began))
	}
}

// TestAnOpenLoopOutlivesItsConnections: a server closes connections, after an
// answer, and when they are idle. Every request is answered.
func TestAnOpenLoopOutlivesItsConnections(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 == 0 {
			w.Header().Set("Connection", "close")
		}
	}))
	server.Config.IdleTimeout = 20 * time.Millisecond
	server.Start()
	defer server.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	began, r := time.Now(), new(recorder)
	load{server.Listener.Addr().String(), func() call { return call{method: http.MethodGet, path: "/"} }}.openLoop(ctx, 50, r)
	samples := r.between(began, time.Now())
	failed := slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.status == http.StatusOK })
	// One may have been sent while its connection was closed.
	if len(samples) < 20 || len(failed) > len(samples)/4 {
		t.Errorf("of %d requests %d failed", len(samples), len(failed))
	}
}

// TestTheWireCounts splits a session everywhere.
func TestTheWireCounts(t *testing.T) {
	t.Parallel()
	message := func(kind byte, body string) string {
		return string([]byte{kind, 0, 0, 0, byte(len(body) + 4)}) + body
	}
	session := "\x00\x00\x00\x08\x04\xd2\x16\x2f" + // may it be encrypted?
		"\x00\x00\x00\x0c\x00\x03\x00\x00user" +
		message('p', "E S Q") + // a password that looks like messages
		message('Q', "SELECT 1\x00") +
		message('P', "EEEE") + message('B', "SSSS") + message('E', "QQQQ") + message('E', "") + message('S', "")
	for size := 1; size <= len(session); size++ {
		w := new(wire)
		c := &counter{wire: w}
		for piece := range slices.Chunk([]byte(session), size) {
			_, _ = c.Write(piece)
		}
		if statements, trips := w.statements.Load(), w.trips.Load(); statements != 3 || trips != 2 {
			t.Errorf("in pieces of %d bytes: %d statements and %d round trips, want 3 and 2", size, statements, trips)
		}
	}
}

func TestTheLogIsRead(t *testing.T) {
	t.Parallel()
	log := logPrefix + "LOG:  execute stmtcache_1/portal: SELECT 1\n\tFROM rides\n\tWHERE key = $1 AND note = $2\n" +
		logPrefix + "DETAIL:  parameters: $1 = 'AAAAAAAAAAAAAAAAAAAA1', $2 = 'it''s $1 = NULL'\n" +
		logPrefix + "LOG:  checkpoint starting: time\n" +
		logPrefix + "LOG:  statement: ROLLBACK\n"
	first := readLog(log)
	if len(first) != 2 || first[0].sql != "SELECT 1\nFROM rides\nWHERE key = $1 AND note = $2" || first[1].sql != "ROLLBACK" {
		t.Fatalf("got %+v", first)
	}
	if p := first[0].parameters; len(p) != 2 || *p[1] != "it's $1 = NULL" {
		t.Errorf("the parameters are %+v", p)
	}
	second := readLog(strings.ReplaceAll(log, "AAAA1", "AAAA2"))
	if got := differences(first, second); !slices.Equal(got, []string{"AAAAAAAAAAAAAAAAAAAA1"}) {
		t.Errorf("the differences are %q", got)
	}
}

// TestTheEndOfPgbenchIsSaid: one that ends before it is told to is an error,
// also if it was content.
func TestTheEndOfPgbenchIsSaid(t *testing.T) {
	l := &lab{dir: t.TempDir()}
	for _, program := range []string{"postgres", "initdb", "pgbench"} {
		if err := os.WriteFile(filepath.Join(l.dir, program), []byte("#!/bin/sh\necho enough\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", l.dir)
	err := l.pgbench(t.Context(), "", "", workload{clients: 1}, new(recorder))
	if want := "pgbench: exit status 0: enough\n"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestALogThatCannotBeReadIsAnError: its samples would be missing in the
// figures.
func TestALogThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	line := "0 1 250 0 1700000000 500\n"
	for name, text := range map[string]string{
		"a line too long": line + strings.Repeat("0", bufio.MaxScanTokenSize), "another line": line + "no figures\n",
	} {
		r, path := new(recorder), filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := readTransactions(path, r); err == nil {
			t.Errorf("%s: got no error, and samples %+v", name, r.between(time.Time{}, time.Now()))
		}
	}
}

func TestMedians(t *testing.T) {
	t.Parallel()
	run := func(perSecond, foreign float64, failures map[string]int) result {
		return result{Scenario: fresh, System: product, Clients: 8, PerSecond: perSecond, Foreign: foreign, Failures: failures}
	}
	got := medians([]result{
		run(100, 0.5, map[string]int{"503": 1}), run(900, 0, map[string]int{"503": 2}), run(300, 0, nil),
		{Scenario: fresh, System: product, Clients: 32, PerSecond: 5},
	})
	if len(got) != 2 || got[0].PerSecond != 300 || got[1].PerSecond != 5 {
		t.Fatalf("got %+v", got)
	}
	if got[0].Failures["503"] != 3 || !strings.Contains(got[0].note(), "not ours: others used 50 %") {
		t.Errorf("the note is %q", got[0].note())
	}
}

func TestTheTimeOfChildrenThatHaveEndedCounts(t *testing.T) {
	t.Parallel()
	stat := "42 (name) of) S 7 1 1 0 -1 0 0 0 0 0 11 22 33 44 20 0"
	got := parseUsage([]byte(stat))
	if want := (usage{parent: 7, own: 33 * tick, children: 77 * tick}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheMemoryIsReadFromProc(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]int64{"MemTotal:       24689560 kB\nMemFree: 1 kB\n": 24689560 << 10, "": 0, "MemFree: 1 kB\n": 0} {
		if got := parseMemory([]byte(info)); got != want {
			t.Errorf("%q: got %d bytes, want %d", info, got, want)
		}
	}
}

func TestTheChartIsXML(t *testing.T) {
	t.Parallel()
	if drawn := chart(facts{}, []result{{Scenario: "list", System: product}}); drawn != "" {
		t.Errorf("without fresh rides there is a chart: %s", drawn)
	}
	drawn := chart(facts{Processor: "A & B <C>"}, []result{
		{Scenario: fresh, System: product, Clients: 8, PerSecond: 1234, PostgresCPU: 500, ServiceCPU: 300},
		{Scenario: fresh, System: frozenFloor, Clients: 8, PerSecond: 2345, PostgresCPU: 900},
	})
	for decoder := xml.NewDecoder(strings.NewReader(drawn)); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v: %s", err, drawn)
		}
	}
	for _, want := range []string{">1234<", ">2345<", ">800<", ">900<", ">service<", "prefers-color-scheme: dark"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("the chart lacks %s", want)
		}
	}
	if strings.Contains(drawn, `fill="`) {
		t.Errorf("something has the same colour on a dark screen: %s", drawn)
	}
}

// TestTheChartAndTheModelAreOfTheSameClients: 32, or else the most.
func TestTheChartAndTheModelAreOfTheSameClients(t *testing.T) {
	t.Parallel()
	ride := func(clients int) result {
		return result{Scenario: fresh, System: product, Clients: clients, Answers: 1, PerSecond: 1}
	}
	for _, test := range []struct {
		rides []result
		want  int
	}{
		{[]result{ride(8), ride(32), ride(128)}, 32}, {[]result{ride(1), ride(8)}, 8}, {[]result{ride(8), ride(1)}, 8},
	} {
		if got, ok := modelOf(test.rides); !ok || got.Clients != test.want {
			t.Errorf("the model is of %d clients (%t), want %d", got.Clients, ok, test.want)
		}
		if want, drawn := fmt.Sprintf("per ride, %d clients", test.want), chart(facts{}, test.rides); !strings.Contains(drawn, want) {
			t.Errorf("the chart isn't of %d clients: %s", test.want, drawn)
		}
	}
}

// TestTurns: no system always comes right after the same other one.
func TestTurns(t *testing.T) {
	t.Parallel()
	systems := []*system{{name: "a"}, {name: "b"}, {name: "c"}, {name: "d"}, {name: "e"}}
	before := map[string]map[string]bool{}
	for round := range 4 {
		last := ""
		for _, s := range turns(systems, round+1) {
			if before[s.name] == nil {
				before[s.name] = map[string]bool{}
			}
			before[s.name][last] = true
			last = s.name
		}
	}
	for name, others := range before {
		if delete(others, ""); len(others) < 2 {
			t.Errorf("%s always comes after %v", name, others)
		}
	}
}
