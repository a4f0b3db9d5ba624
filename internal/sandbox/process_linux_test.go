package sandbox

import (
	"syscall"
	"testing"
)

// A child that is stopped doesn't see the tether's end. Mostly the kernel wakes
// it all the same, by SIGHUP and SIGCONT, because its process group has nobody
// left in the session to control it; not so where somebody adopts it, as this
// test does and container runtimes do.
func TestAStoppedChildEndsWithTheSandbox(t *testing.T) {
	t.Parallel()
	const setChildSubreaper = 36 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	b := start(t, folder(t), anywhere)
	processes := b.processes(t)
	for _, name := range []string{"api", "completer", "fakestripe"} {
		if err := syscall.Kill(processes[name], syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	b.stop(t, syscall.SIGKILL)
	checkNothingRuns(t, processes)
}
