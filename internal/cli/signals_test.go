package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestCtrlCRightAfterASignal: a process gets SIGTERM, and SIGINT as soon as the
// context shows it.
func TestCtrlCRightAfterASignal(t *testing.T) {
	t.Parallel()
	const asChild = "CLI_TEST_SIGNALED"
	if os.Getenv(asChild) != "" {
		ctx, stop := UntilSignaled(context.Background())
		defer stop()
		signalSelf(t, syscall.SIGTERM)
		<-ctx.Done()
		signalSelf(t, syscall.SIGINT)
		<-time.After(10 * time.Second)
		return
	}
	for range 20 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // it is this program
		child.Env = append(os.Environ(), asChild+"=yes")
		err := child.Run()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatalf("it outlived Ctrl-C: %v", err)
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
			t.Fatalf("it ended with %v", exit)
		}
	}
}

func signalSelf(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}
