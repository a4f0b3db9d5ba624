package trace

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"
)

const (
	traceabilityHeader = "X-Traceability-Id"
	// maxTraceabilityID is how many characters an X-Traceability-Id may have.
	maxTraceabilityID = 128
)

// propagator reads and writes the two headers of a trace.
//
//nolint:gochecknoglobals // a constant, in effect
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, traceability{})

// FromHeader returns ctx with the trace that the headers of a request name.
// What is malformed, too long or sent twice is ignored: optional headers are no
// reason to refuse a request.
func FromHeader(ctx context.Context, header http.Header) context.Context {
	if header["Traceparent"] == nil && header[traceabilityHeader] == nil {
		return ctx // as most, and to ask the propagator takes allocations
	}
	return propagator.Extract(ctx, headers(header))
}

// ToHeader adds the trace of ctx to the headers of a request that is sent.
func ToHeader(ctx context.Context, header http.Header) { propagator.Inject(ctx, headers(header)) }

// Stored returns the trace of ctx in the form that FromStored reads. It is ""
// if ctx has none.
func Stored(ctx context.Context) string {
	if ID(ctx) == "" && !oteltrace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	stored, err := json.Marshal(carrier)
	if err != nil {
		return "" // impossible: strings can always be encoded
	}
	return string(stored)
}

// FromStored returns ctx with a stored trace. If that is empty or unreadable,
// it returns ctx as it is.
func FromStored(ctx context.Context, stored string) context.Context {
	if stored == "" {
		return ctx
	}
	var carrier propagation.MapCarrier
	if json.Unmarshal([]byte(stored), &carrier) != nil || len(carrier) == 0 {
		return ctx
	}
	ctx = oteltrace.ContextWithRemoteSpanContext(context.WithValue(ctx, traceabilityKey{}, ""), oteltrace.SpanContext{})
	return propagator.Extract(ctx, carrier)
}

// ID returns the X-Traceability-Id of the trace of ctx, or "".
func ID(ctx context.Context) string {
	id, _ := ctx.Value(traceabilityKey{}).(string)
	return id
}

// traceID returns the id of the W3C trace of ctx, or "".
func traceID(ctx context.Context) string {
	if id := oteltrace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

type traceabilityKey struct{}

// traceability is the propagator of X-Traceability-Id.
type traceability struct{}

// Inject implements propagation.TextMapPropagator.
func (traceability) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	if id := ID(ctx); id != "" {
		carrier.Set(traceabilityHeader, id)
	}
}

// Extract implements propagation.TextMapPropagator.
func (traceability) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	id := carrier.Get(traceabilityHeader)
	outside := func(char rune) bool { return char < ' ' || char > '~' }
	if id == "" || len(id) > maxTraceabilityID || strings.ContainsFunc(id, outside) {
		return ctx
	}
	return context.WithValue(ctx, traceabilityKey{}, id)
}

// Fields implements propagation.TextMapPropagator.
func (traceability) Fields() []string { return []string{traceabilityHeader} }

// headers are those of a request, without tracestate: it has no use here, and
// no bound.
type headers http.Header

// Get returns the value of a header that was sent once. If it was sent twice,
// nobody knows which value was meant.
func (h headers) Get(name string) string {
	if lines := http.Header(h).Values(name); len(lines) == 1 && name != "tracestate" {
		return lines[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (h headers) Set(name, value string) { http.Header(h).Set(name, value) }

// Keys implements propagation.TextMapCarrier.
func (h headers) Keys() []string { return nil }
