package rides

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// writeTimeout bounds the writing of one answer. It runs from the moment when
// the answer is there, not from the request's arrival, so that a payment that
// takes long can still be answered.
const writeTimeout = 10 * time.Second

// lingering is how long what is left of an unwanted body is read, so that the
// client sees the answer before it sees that nobody listens any more.
const lingering = time.Second

// handler is a handler that returns its refusal instead of writing it.
type handler func(w http.ResponseWriter, r *http.Request) error

// visit is what the log says about one request, filled in on its way.
type visit struct {
	requestID      string
	traceabilityID string
	traceID        string
	route          string
	account        string
	key            string
	keyErr         error // what is wrong with the key, where a route needs one
	replayed       bool
	code           web.Code
	cause          error
	status         int
}

type visitKey struct{}

// visitOf is the visit of a request that came through observe.
func visitOf(ctx context.Context) *visit {
	if x, ok := ctx.Value(visitKey{}).(*visit); ok {
		return x
	}
	return &visit{}
}

// observe gives each request its id and its line in the log, and counts it.
func (s *Service) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The id is ours: one that a client could choose would name other
		// people's requests in our log.
		x := &visit{
			requestID:      "req_" + strings.ReplaceAll(uuid.Must(uuid.NewV7()).String(), "-", ""),
			traceabilityID: web.TraceabilityID(r.Header), traceID: web.TraceID(r.Header),
		}
		w.Header().Set("Request-Id", x.requestID)
		if x.traceabilityID != "" {
			w.Header().Set("X-Traceability-Id", x.traceabilityID)
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		start := time.Now()
		r = r.WithContext(context.WithValue(r.Context(), visitKey{}, x))
		next.ServeHTTP(w, r)
		took := time.Since(start)
		s.meters.requests.WithLabelValues(x.route, strconv.Itoa(x.status), string(x.code)).Inc()
		s.meters.seconds.WithLabelValues(x.route).Observe(took.Seconds())
		s.logVisit(r, x, took)
	})
}

// logVisit writes the one line that says all about a request.
func (s *Service) logVisit(r *http.Request, x *visit, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request_id", x.requestID), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", x.status), slog.Float64("seconds", took.Seconds()),
	}
	for _, attr := range []slog.Attr{
		slog.String("account", x.account), slog.String("code", string(x.code)),
		slog.String("traceability_id", x.traceabilityID), slog.String("trace_id", x.traceID),
	} {
		if attr.Value.String() != "" {
			attrs = append(attrs, attr)
		}
	}
	if x.key != "" {
		attrs = append(attrs, slog.String("key", x.key), slog.Bool("replayed", x.replayed))
	}
	level := slog.LevelInfo
	if x.status >= http.StatusInternalServerError && x.cause != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("error", x.cause))
	}
	if x.code == web.CodeInternal {
		level = slog.LevelError
	}
	if panicked, ok := errors.AsType[*phases.PanicError](x.cause); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// handle writes the refusal that next returns. A panic costs the request and
// not the process.
func (s *Service) handle(next handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := visitOf(r.Context())
		if r.Body != http.NoBody {
			// Until the body is read: net/http would wait for the rest of it
			// before it sends an answer.
			w.Header().Set("Connection", "close")
		}
		// A metric's label must not grow with what clients send: methods and
		// paths are theirs to invent.
		x.route = "unmatched"
		if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" && slices.Contains(methods(), r.Method) {
			x.route = r.Method + " " + pattern
		}
		if err := guarded(next, w, r); err != nil {
			refused := problemFor(err)
			x.code, x.cause = refused.Problem.Code, err
			refused.Problem.RequestID = x.requestID
			if refused.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(refused.RetryAfter))
			}
			w.Header().Set("Content-Type", web.ProblemType)
			write(w, r, refused.Problem.Status, refused.Problem.Encode())
		}
		if w.Header().Get("Connection") == "close" {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingering))
		}
	}
}

// guarded turns a panic of a handler into an error.
func guarded(next handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &phases.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return next(w, r)
}

// write sends an answer. What goes wrong here is the connection's trouble: the
// client asks again and gets a replay.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	visitOf(r.Context()).status = status
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	// The deadline is this answer's. It must not cut off the next on the same
	// connection.
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
}

// allowed lists the methods that a path takes (RFC 9110, section 15.5.6).
func allowed(routes chi.Routes, path string) string {
	var taken []string
	for _, method := range methods() {
		if routes.Match(chi.NewRouteContext(), method, path) {
			taken = append(taken, method)
		}
	}
	return strings.Join(taken, ", ")
}

// methods are those that a route may have.
func methods() []string {
	return []string{
		http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost, http.MethodPut,
	}
}

// httpMeters are the metrics of the public API.
type httpMeters struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newHTTPMeters(registry prometheus.Registerer) *httpMeters {
	m := &httpMeters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rides_http_requests_total", Help: "Answers of the public API, by route, status and problem code.",
		}, []string{"route", "status", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rides_http_request_seconds", Help: "Time from a request's arrival to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
	}
	if registry != nil {
		registry.MustRegister(m.requests, m.seconds)
	}
	return m
}
