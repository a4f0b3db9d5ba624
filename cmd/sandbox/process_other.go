//go:build unix && !linux

package main

import "syscall"

// dieWithParent does nothing: the tether ends the child.
func dieWithParent(*syscall.SysProcAttr) {}
