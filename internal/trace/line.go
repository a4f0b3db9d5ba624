package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A Line gathers what the log will say of a request, an attempt or a job when
// it is over. It is safe for concurrent use. The methods of a nil Line do
// nothing.
type Line struct {
	mu                sync.Mutex
	attrs             []slog.Attr
	first             [6]slog.Attr // where attrs begins
	database, foreign time.Duration
}

type lineKey struct{}

// Begin returns ctx with a new line.
func Begin(ctx context.Context) (context.Context, *Line) {
	line := new(Line)
	line.attrs = line.first[:0]
	return context.WithValue(ctx, lineKey{}, line), line
}

// LineOf returns the line of ctx, or nil.
func LineOf(ctx context.Context) *Line {
	line, _ := ctx.Value(lineKey{}).(*Line)
	return line
}

// Set sets attributes, in place of earlier ones with the same names.
func (l *Line) Set(attrs ...slog.Attr) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, attr := range attrs {
		l.set(attr)
	}
}

func (l *Line) set(attr slog.Attr) {
	for i := range l.attrs {
		if l.attrs[i].Key == attr.Key {
			l.attrs[i] = attr
			return
		}
	}
	l.attrs = append(l.attrs, attr)
}

// AddDatabase adds time in which the work has waited for the database. What
// went on at the same time counts twice.
func (l *Line) AddDatabase(d time.Duration) {
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.database += d
	}
}

// AddForeign adds time in which the work has waited for Stripe, a mail server
// or a receiver of callbacks.
func (l *Line) AddForeign(d time.Duration) {
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.foreign += d
	}
}

// Attrs returns the attributes that were set, and the times, in seconds.
func (l *Line) Attrs() []slog.Attr {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	attrs := append(make([]slog.Attr, 0, len(l.attrs)+2), l.attrs...)
	if l.database > 0 {
		attrs = append(attrs, slog.Float64("database_seconds", l.database.Seconds()))
	}
	if l.foreign > 0 {
		attrs = append(attrs, slog.Float64("foreign_seconds", l.foreign.Seconds()))
	}
	return attrs
}
