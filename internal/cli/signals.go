package cli

import (
	"context"
	"os/signal"
	"syscall"
)

// UntilSignaled returns a context that ends with SIGINT or SIGTERM, and a
// function that releases it. After the first signal another Ctrl-C (SIGINT)
// ends the process at once, without waiting for what is running; other
// processes take over its keys when their leases end. Another SIGTERM changes
// nothing, because timeout and similar programs send it twice.
func UntilSignaled(ctx context.Context) (context.Context, context.CancelFunc) {
	signaled, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(signaled, func() {
		signal.Reset(syscall.SIGINT) // before anything shows that the end has begun: a Ctrl-C may follow at once
		end(context.Cause(signaled))
	})
	return ctx, stop
}
