// Package pause waits.
package pause

import (
	"context"
	"log/slog"
	"time"
)

// Repeat runs a task, waits for d, and runs it again, until ctx ends. Errors are
// logged, but not those that the end of ctx may have caused.
func Repeat(ctx context.Context, log *slog.Logger, task string, d time.Duration, run func(context.Context) error) {
	for ctx.Err() == nil {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "task failed: trying again", slog.String("task", task), slog.Any("error", err))
		}
		_ = For(ctx, d) // the loop looks at ctx itself
	}
}

// For waits for d, or until ctx ends, and then returns the cause of its end.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
