//go:build unix && !linux

package children

import "syscall"

// DieWithParent does nothing: only Linux tells a child that its parent died.
func DieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
