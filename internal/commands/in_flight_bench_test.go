package commands

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// BenchmarkInFlight has rides wait for Stripe, all at once, and reports what an
// api needs for each of them. b.N is how many there are:
//
//	go test -run '^$' -bench InFlight -benchtime 10000x ./internal/commands
func BenchmarkInFlight(b *testing.B) {
	s := newScene(b)
	api := s.start(b, "api", "RATE_LIMIT=0", "MAX_RIDES=20000", "MAX_RIDES_PER_ACCOUNT=20000", "LEASE=10m", "STRIPE_TIMEOUT=5m")
	if a := s.hail(api, "warm"); a.status != http.StatusCreated {
		b.Fatalf("a ride was answered %d", a.status)
	}
	gate := make(chan struct{})
	s.fake.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate, Times: b.N})
	before := api.memory(b)
	b.ResetTimer()
	var clients sync.WaitGroup
	for i := range b.N {
		clients.Go(func() {
			if a := s.hail(api, fmt.Sprint("k", i)); a.status != http.StatusCreated {
				b.Errorf("ride %d was answered %d %s %v", i, a.status, a.body, a.err)
			}
		})
		time.Sleep(time.Millisecond)
	}
	if err := s.fake.WaitSends(b.Context(), 1+b.N, nil); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric((api.memory(b)-before)/float64(b.N)/1000, "kB/ride")
	var connections int
	err := s.pool.QueryRow(b.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rocketrides-api'`).Scan(&connections)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(connections), "connections")
	close(gate)
	clients.Wait()
}

// memory returns how much memory a process has in use, in bytes. It works on
// Linux only.
func (p *process) memory(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		b.Skip("the system has no /proc") // a benchmark, which CI doesn't run
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kilobytes * 1024
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}
