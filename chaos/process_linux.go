package main

import "syscall"

// dieWithParent has the kernel kill the child when the thread that started it ends, which is when chaos ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
