//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// limitUnacknowledged does nothing: only Linux has a standard option for it.
func limitUnacknowledged(syscall.RawConn, time.Duration) error { return nil }
