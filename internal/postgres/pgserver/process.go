package pgserver

import (
	"os/exec"
	"runtime"
)

// A process is a child that ends, at the latest, with this process (on Linux).
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; to be read once done is closed
}

// start starts cmd. Linux tells a child that its parent died when the *thread*
// that started it ends, so a goroutine keeps its thread for as long as the
// child lives.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// run starts cmd and waits for its end.
func run(cmd *exec.Cmd) error {
	p, err := start(cmd)
	if err != nil {
		return err
	}
	<-p.done
	return p.err
}
