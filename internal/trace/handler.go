package trace

import (
	"context"
	"log/slog"
	"slices"
)

type attrsKey struct{}

// With returns ctx with attributes that each line has that Handler writes for
// it, such as the key that an attempt works on.
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	before, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return context.WithValue(ctx, attrsKey{}, append(slices.Clip(before), attrs...))
}

// Handler returns a handler that adds the trace of its context to each line, as
// traceability_id and trace_id, and the attributes of With, unless the line has
// attributes of these names.
func Handler(next slog.Handler) slog.Handler { return handler{next} }

type handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, record slog.Record) error {
	added, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	attrs := append(make([]slog.Attr, 0, 8), added...) // on the stack
	attrs = append(attrs, slog.String("traceability_id", ID(ctx)), slog.String("trace_id", traceID(ctx)))
	attrs = slices.DeleteFunc(attrs, func(attr slog.Attr) bool { return attr.Value.String() == "" || has(record, attr.Key) })
	if len(attrs) > 0 {
		record = record.Clone()
		record.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, record)
}

func has(record slog.Record, name string) (found bool) {
	record.Attrs(func(attr slog.Attr) bool {
		found = attr.Key == name
		return !found
	})
	return found
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
