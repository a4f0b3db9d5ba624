package callbacks

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A victim listens on loopback, where no callback may go, and counts the
// connections.
type victim struct {
	port     string
	accepted atomic.Int64
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := new(victim)
	fourth := listen(t, "127.0.0.1:0")
	_, v.port, _ = net.SplitHostPort(fourth.Addr().String())
	v.watch(fourth)
	if sixth, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "[::1]:"+v.port); err == nil { // not every machine has IPv6
		t.Cleanup(func() { _ = sixth.Close() })
		v.watch(sixth)
	}
	return v
}

// listen listens until the end of the test.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// watch counts the connections of a listener until it is closed.
func (v *victim) watch(listener net.Listener) {
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			v.accepted.Add(1)
			_ = conn.Close()
		}
	}()
}

// checkUntouched checks that nobody connected. A connection of the test's own
// comes after all of those that came before.
func (v *victim) checkUntouched(t *testing.T) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", v.port))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1)) // until it is accepted and closed
	_ = conn.Close()
	if n := v.accepted.Load() - 1; n != 0 {
		t.Errorf("%d connections were made, want none", n)
	}
}

func message(url string) Message {
	return Message{URL: url, ID: "msg_1", At: time.Now(), Body: []byte(`{"type":"ride.charged"}`), Secrets: []string{aSecret}}
}

// shortLimits are limits for receivers that reach them.
func shortLimits() limits {
	short := theLimits
	short.dial, short.handshake, short.body = 4*time.Second, 4*time.Second, 100*time.Millisecond
	short.total = 4 * time.Second
	return short
}
