//go:build unix && !linux

package main

import "syscall"

// dieWithParent does nothing: after kill -9 of chaos its children are left, and must be ended by hand.
func dieWithParent(*syscall.SysProcAttr) {}
