//go:build unix && !linux

package process

import "syscall"

// signalOrphan does nothing: only Linux signals a child whose parent ended.
func signalOrphan(*syscall.SysProcAttr, syscall.Signal) {}
