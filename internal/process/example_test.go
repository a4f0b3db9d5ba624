package process_test

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/process"
)

// A process that is killed is started again.
func ExampleSupervise() {
	ctx := context.Background()
	started := make(chan *process.Child, 2)
	start := func(ctx context.Context) (process.Process, error) {
		// Stop ends the process, and not the context.
		child, err := process.Start(exec.CommandContext(context.WithoutCancel(ctx), "sleep", "60"), syscall.SIGKILL)
		if err != nil {
			return nil, err
		}
		started <- child
		return child, nil
	}
	first, err := start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	supervisor := process.Supervise(ctx, first, process.Program{
		Start:          start,
		Ended:          func(err error, pause time.Duration) { fmt.Printf("sleep ended (%v); next start in %s\n", err, pause) },
		BackoffInitial: 50 * time.Millisecond,
		BackoffMax:     10 * time.Second,
	})
	_ = (<-started).Signal(syscall.SIGKILL)
	<-started // the next one runs
	fmt.Println("stopped:", supervisor.Stop(ctx))
	// Output:
	// sleep ended (signal: killed); next start in 50ms
	// stopped: <nil>
}
