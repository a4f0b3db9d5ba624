package postgres_test

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestConnectionsHaveTheTimeOutsForAnUnreachableServer: also that for one with an
// unanswered statement, on which no keepalives are sent.
func TestConnectionsHaveTheTimeOutsForAnUnreachableServer(t *testing.T) {
	t.Parallel()
	conn, err := pgtest.New(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	wire := conn.Conn().PgConn().Conn()
	if secured, ok := wire.(*tls.Conn); ok {
		wire = secured.NetConn()
	}
	tcp, ok := wire.(*net.TCPConn)
	if !ok {
		t.Fatalf("the connection is a %T", wire)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const userTimeout = 18 // TCP_USER_TIMEOUT, in milliseconds
	for option, want := range map[int]int{userTimeout: 30_000, syscall.TCP_KEEPIDLE: 15, syscall.TCP_KEEPINTVL: 5, syscall.TCP_KEEPCNT: 3} {
		var got int
		var err error
		controlled := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option) })
		if got != want || err != nil || controlled != nil {
			t.Errorf("option %d is %d (%v, %v), want %d", option, got, err, controlled, want)
		}
	}
}

// TestASocketOfThisMachineIsDialled: it has no options of TCP.
func TestASocketOfThisMachineIsDialled(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing was written
	conn, err := postgres.Dial(t.Context(), "unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
