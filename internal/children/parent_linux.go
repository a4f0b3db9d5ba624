package children

import "syscall"

// DieWithParent has the kernel send signal to the child that is started with
// attr, when the *thread* that started it ends (PR_SET_PDEATHSIG in prctl(2)).
// That is when this program ends, in whatever way, if the goroutine that starts
// the child keeps its thread (runtime.LockOSThread) for as long as the child is
// to live: Go ends threads as it likes. Systems other than Linux have no such
// thing, and there it does nothing.
func DieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }
