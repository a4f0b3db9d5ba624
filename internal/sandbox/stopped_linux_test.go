package sandbox

import (
	"syscall"
	"testing"
)

// A child that is stopped does not notice the end of the parent pipe. In many
// cases the kernel wakes it by SIGHUP and SIGCONT, because its process group is
// orphaned. It does not if another process of the session adopts the child, as
// this test and container runtimes do.
func TestStoppedChildEndsWithTheSandbox(t *testing.T) {
	t.Parallel()
	const setChildSubreaper = 36 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	p := start(t, folder(t), freePorts)
	processes := p.processes(t)
	for _, name := range []string{"api", "completer", "fakestripe"} {
		if err := syscall.Kill(processes[name], syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	p.stop(t, syscall.SIGKILL)
	checkNothingRuns(t, processes)
}
