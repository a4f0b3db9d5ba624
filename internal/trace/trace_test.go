package trace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/trace"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
	parent  = "00-" + traceID + "-" + spanID + "-01"
)

// line returns what is logged for a context.
func line(t *testing.T, ctx context.Context, attrs ...slog.Attr) map[string]any { //nolint:revive // t comes first in a test's helpers
	t.Helper()
	var buffer bytes.Buffer
	log := slog.New(trace.Handler(slog.NewJSONHandler(&buffer, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey || attr.Key == slog.LevelKey || attr.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return attr
		},
	})))
	log.LogAttrs(ctx, slog.LevelInfo, "x", attrs...)
	if n := bytes.Count(buffer.Bytes(), []byte(`"account"`)); n > 1 {
		t.Errorf("the line says %d times what the account is: %s", n, buffer.String())
	}
	var got map[string]any
	if err := json.Unmarshal(buffer.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	own := func(values ...string) http.Header { return http.Header{"X-Traceability-Id": values} }
	w3c := func(values ...string) http.Header { return http.Header{"Traceparent": values} }
	id := func(id string) map[string]any { return map[string]any{"traceability_id": id} }
	traced, untraced := map[string]any{"trace_id": traceID}, map[string]any{}
	for name, test := range map[string]struct {
		header http.Header
		want   map[string]any
	}{
		"neither":                      {http.Header{}, untraced},
		"an id":                        {own("order 7/~"), id("order 7/~")},
		"an id of 128":                 {own(strings.Repeat("a", 128)), id(strings.Repeat("a", 128))},
		"an id of 129":                 {own(strings.Repeat("a", 129)), untraced},
		"an empty id":                  {own(""), untraced},
		"two ids":                      {own("a", "b"), untraced},
		"an id with a tab":             {own("a\tb"), untraced},
		"an id with a DEL":             {own("a\x7f"), untraced},
		"an id beyond ASCII":           {own("é"), untraced},
		"an id that breaks the line":   {own("a\r\nSet-Cookie: b=c"), untraced},
		"a trace":                      {w3c(parent), traced},
		"an unsampled trace":           {w3c("00-" + traceID + "-" + spanID + "-00"), traced},
		"a trace of a later version":   {w3c("01-" + traceID + "-" + spanID + "-01"), traced},
		"a trace of version ff":        {w3c("ff-" + traceID + "-" + spanID + "-01"), untraced},
		"a trace of zeroes":            {w3c("00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"), untraced},
		"a span of zeroes":             {w3c("00-" + traceID + "-" + strings.Repeat("0", 16) + "-01"), untraced},
		"a trace in capitals":          {w3c(strings.ToUpper(parent)), untraced},
		"flags that are not hex":       {w3c("00-" + traceID + "-" + spanID + "-0x"), untraced},
		"a trace of 31":                {w3c("00-" + traceID[1:] + "-" + spanID + "0-01"), untraced},
		"a trace with a fifth field":   {w3c(parent + "-0"), untraced},
		"a trace with a dash too many": {w3c("00-" + traceID + "-" + spanID[1:] + "--01"), untraced},
		"two traces":                   {w3c(parent, parent), untraced},
	} {
		ctx := trace.FromHeader(t.Context(), test.header)
		if diff := cmp.Diff(test.want, line(t, ctx)); diff != "" {
			t.Errorf("%s is logged otherwise (-want +got):\n%s", name, diff)
		}
		again := trace.FromStored(t.Context(), trace.Stored(ctx))
		if diff := cmp.Diff(test.want, line(t, again)); diff != "" {
			t.Errorf("%s is stored otherwise (-want +got):\n%s", name, diff)
		}
		if stored := trace.Stored(ctx); len(stored) > 300 || (stored == "") != (len(test.want) == 0) {
			t.Errorf("%s is stored as %q", name, stored)
		}
	}
}

func TestATraceIsPassedOn(t *testing.T) {
	t.Parallel()
	header := http.Header{"X-Traceability-Id": {"order 7"}, "Traceparent": {parent}, "Tracestate": {"vendor=" + strings.Repeat("x", 200)}}
	ctx := trace.FromStored(t.Context(), trace.Stored(trace.FromHeader(t.Context(), header)))
	sent := http.Header{}
	trace.ToHeader(ctx, sent)
	want := http.Header{"X-Traceability-Id": {"order 7"}, "Traceparent": {parent}}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("it is passed on otherwise (-want +got):\n%s", diff)
	}
	trace.ToHeader(t.Context(), sent)
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("no trace changes a header (-want +got):\n%s", diff)
	}
}

// What a key has stored replaces the trace of a retry, whole: the lines of its
// attempts are found by one trace.
func TestAStoredTraceReplacesAnother(t *testing.T) {
	t.Parallel()
	retry := trace.FromHeader(t.Context(), http.Header{"X-Traceability-Id": {"retry"}, "Traceparent": {parent}})
	first := trace.FromHeader(t.Context(), http.Header{"X-Traceability-Id": {"first"}})
	if diff := cmp.Diff(map[string]any{"traceability_id": "first"}, line(t, trace.FromStored(retry, trace.Stored(first)))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, stored := range []string{"", "nonsense", "null", "[]"} {
		got := line(t, trace.FromStored(first, stored))
		if diff := cmp.Diff(map[string]any{"traceability_id": "first"}, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", stored, diff)
		}
	}
}

func TestEveryLineSaysWhatTheWorkIsAbout(t *testing.T) {
	t.Parallel()
	ctx := trace.With(trace.With(t.Context(), slog.String("account", "acct_1")), slog.String("key", "k"))
	got := line(t, ctx, slog.String("account", "acct_2"), slog.Int("status", 201))
	if diff := cmp.Diff(map[string]any{"account": "acct_2", "key": "k", "status": 201.0}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestALineAddsUp(t *testing.T) {
	t.Parallel()
	var none *trace.Line
	none.Set(slog.Int("attempt", 1))
	none.AddDatabase(time.Second)
	none.AddForeign(time.Second)
	if trace.LineOf(t.Context()) != none || none.Attrs() != nil {
		t.Error("a context has a line that nobody has begun")
	}
	ctx, begun := trace.Begin(t.Context())
	for attempt := range 3 {
		trace.LineOf(ctx).Set(slog.Int("attempt", attempt))
		trace.LineOf(ctx).AddDatabase(time.Second)
		trace.LineOf(ctx).AddForeign(2 * time.Second)
	}
	want := map[string]any{"attempt": 2.0, "database_seconds": 3.0, "foreign_seconds": 6.0}
	if diff := cmp.Diff(want, line(t, ctx, begun.Attrs()...)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
