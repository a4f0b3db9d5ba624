package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// A requestRecord is what the log and the metrics say about one request, and
// serves nothing else. It is filled in while the request is answered and read
// once, at the end.
type requestRecord struct {
	account  string
	key      string // the idempotency key
	replayed bool
	waited   time.Duration // because the client preferred to
	status   int
	code     Code  // of the problem that was answered, if any
	cause    error // of a refusal
}

// report counts a request that was answered, and logs it.
func (rt *Router) report(ctx context.Context, r *Request, took time.Duration) {
	// The label is the route's pattern, never the path: clients invent paths
	// and methods, and a metric must not grow with them.
	route := unmatched
	if r.Pattern != "" {
		route = r.Method + " " + r.Pattern
	}
	rt.metrics.requests.WithLabelValues(route, strconv.Itoa(r.record.status), string(r.record.code)).Inc()
	rt.metrics.seconds.WithLabelValues(route).Observe((took - r.record.waited).Seconds())
	line := func() {
		attrs := append(r.attrs(route, took), trace.LineOf(ctx).Attrs()...)
		rt.log.LogAttrs(ctx, r.record.level(), "request", attrs...)
	}
	if errors.Is(r.record.cause, phases.ErrBusy) {
		rt.busy.Do(line)
	} else {
		line()
	}
}

// level returns the level of the request's line in the log: the higher it is,
// the more a person should look at it.
func (record *requestRecord) level() slog.Level {
	switch {
	case record.code == CodeInternal:
		return slog.LevelError
	case record.failed():
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// failed reports whether the request was refused because of a failure on the
// server's side.
func (record *requestRecord) failed() bool {
	return record.status >= http.StatusInternalServerError && record.cause != nil
}

// maxLogged is the most that the log shows of one part of a request, in bytes.
// A client could fill the disk otherwise.
const maxLogged = 200

// loggable returns what the log shows of a part of a request. Text that is cut
// ends with an ellipsis.
func loggable(text string) string {
	const ellipsis = "…"
	if len(text) <= maxLogged {
		return text
	}
	return strings.ToValidUTF8(text[:maxLogged-len(ellipsis)], "") + ellipsis
}

// attrs returns the attributes of the request's line in the log.
func (r *Request) attrs(route string, took time.Duration) []slog.Attr {
	record := &r.record
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("request_id", r.ID), slog.String("route", route),
		slog.String("method", loggable(r.Method)), slog.String("path", loggable(r.URL.Path)),
		slog.Int("status", record.status), slog.Float64("seconds", took.Seconds()),
	)
	for _, attr := range []slog.Attr{
		slog.String("account", record.account), slog.String("code", string(record.code)),
	} {
		if attr.Value.String() != "" {
			attrs = append(attrs, attr)
		}
	}
	if record.key != "" {
		attrs = append(attrs, slog.String("key", record.key), slog.Bool("replayed", record.replayed))
	}
	if record.waited > 0 {
		attrs = append(attrs, slog.Float64("waited_seconds", record.waited.Seconds()))
	}
	// Of a 401 the client learns nothing, and its operator asks ours: the key is
	// mistyped, revoked, of the other mode, or its account is disabled. Stripe
	// doesn't tell our operator that the secret of its webhook is another one.
	if record.failed() || record.code == CodeUnauthenticated || record.code == CodeSignatureInvalid {
		attrs = append(attrs, slog.Any("error", record.cause))
	}
	if panicked, ok := errors.AsType[*phases.PanicError](record.cause); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	return attrs
}
