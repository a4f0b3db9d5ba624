package main

import "syscall"

// dieWithParent has the kernel kill the child when the thread that started it
// ends, which is when the sandbox ends: see child.watch.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
