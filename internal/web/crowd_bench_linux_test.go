package web

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// BenchmarkRefusalAtTheDoor has requests come on 64 connections at once, and
// reports the processor time of each refusal, without that of the client.
func BenchmarkRefusalAtTheDoor(b *testing.B) {
	const sockets, ofThread = 64, 1 // RUSAGE_THREAD
	router := NewRouter(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	router.RefuseCrowds(func() error { return phases.ErrBusy })
	router.Post("/v1/boats", func(http.ResponseWriter, *Request, string, error) error { return nil })
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := cli.NewServer(router, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(listener) }()
	defer server.Close() //nolint:errcheck // nobody is left
	body := `{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}`
	request := fmt.Appendf(nil, "POST /v1/boats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer rr_test_0123456789abcdefghijklmnopqrstuvwxyz0123456789\r\n"+
		"Idempotency-Key: 01234567890123456789012-000000000000\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)

	// The client has a thread of its own and calls the kernel itself, so that
	// its time is known.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var clients []int
	for range sockets {
		clients = append(clients, connect(b, listener.Addr().String()))
	}
	answer := make([]byte, 16<<10)
	before, refusals := processorTime(b, syscall.RUSAGE_SELF)-processorTime(b, ofThread), 0
	b.ReportAllocs()
	for b.Loop() {
		for _, client := range clients {
			if _, err := syscall.Write(client, request); err != nil {
				b.Fatal(err)
			}
		}
		for _, client := range clients {
			n, err := syscall.Read(client, answer)
			if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 503 ")) || !bytes.HasSuffix(answer[:n], []byte("}\n")) {
				b.Fatalf("got %q, %v", answer[:n], err)
			}
			refusals++
		}
	}
	used := processorTime(b, syscall.RUSAGE_SELF) - processorTime(b, ofThread) - before
	b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(refusals), "µs/refusal")
}

// connect returns a socket that blocks.
func connect(b *testing.B, address string) (socket int) {
	b.Helper()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		b.Fatal(err)
	}
	socket, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Connect(socket, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		b.Fatal(err)
	}
	return socket
}

// processorTime returns how long the process has run, or one thread of it.
func processorTime(b *testing.B, who int) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(who, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
