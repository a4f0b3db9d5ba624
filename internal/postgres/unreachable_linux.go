package postgres

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which package syscall lacks.
const tcpUserTimeout = 18

// limitUnacknowledged has the kernel end a TCP connection on which what was sent
// is not acknowledged for so long.
func limitUnacknowledged(conn syscall.RawConn, limit time.Duration) error {
	var set error
	err := conn.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(limit.Milliseconds()))
	})
	return errors.Join(err, os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", set))
}
