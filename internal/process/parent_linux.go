package process

import "syscall"

// signalOrphan has the kernel send signal to the child that is started with
// attr, when the thread that started it ends (PR_SET_PDEATHSIG in prctl(2)).
func signalOrphan(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }
