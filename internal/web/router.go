package web

import (
	"cmp"
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
)

// lingerTimeout bounds how long the rest of an unread body is read after the
// answer. If the connection were closed at once, the client could miss the
// answer.
const lingerTimeout = time.Second

// A Handler answers one request. If it refuses the request, or fails, it writes
// nothing and returns an error: the router writes the problem.
type Handler func(w http.ResponseWriter, r *Request) error

// A KeyedHandler is a Handler of requests with an Idempotency-Key. It gets the
// key, or the refusal of a key that is missing or invalid, which it returns in
// its turn.
type KeyedHandler func(w http.ResponseWriter, r *Request, key string, keyErr error) error

// A Request is an HTTP request on its way through a [Router]. Its Pattern is
// the one that the route was registered with.
type Request struct {
	*http.Request
	// ID names the request in the Request-Id header, in problems and in the
	// log: req_ and 32 hexadecimal digits.
	ID string

	record requestRecord
	client context.Context //nolint:containedctx // ends when the client hangs up; see Gone
}

// newRequest gives a request its id. Clients can't choose it: one that could
// would name other people's requests in the log.
func newRequest(r *http.Request, pattern string) *Request {
	r.Pattern = pattern
	id := uuid.Must(uuid.NewV7())
	return &Request{Request: r, ID: string(hex.AppendEncode(append(make([]byte, 0, 64), "req_"...), id[:]))} // made on the stack
}

// A PathID is an id in a request's path, and its name in the route's pattern.
type PathID struct {
	Name, Value string
}

// PathIDs returns the ids in the request's path, in their order.
func (r *Request) PathIDs() []PathID {
	var ids []PathID
	params := chi.RouteContext(r.Context()).URLParams
	for i, name := range params.Keys {
		ids = append(ids, PathID{Name: name, Value: params.Values[i]})
	}
	return ids
}

// RecordAccount makes the log name the account that the request acts for.
func (r *Request) RecordAccount(id string) { r.record.account = id }

// A Router serves handlers. Add its routes before it serves; after that it is
// safe for concurrent use.
type Router struct {
	mux     *chi.Mux
	handler http.Handler // mux, behind what finds out who the client is
	log     *slog.Logger
	metrics *metrics
	// busy logs one request a second of those that are refused because there
	// are too many: the lines would make the flood worse. The metrics count
	// all.
	busy    rate.Sometimes
	crowded func() error // see RefuseCrowds
}

// NewRouter returns a router without routes, which answers everything with 404.
// It logs each request to logger and registers rides_http_… in registry, unless
// that is nil.
func NewRouter(logger *slog.Logger, registry prometheus.Registerer) *Router {
	rt := &Router{
		mux: chi.NewRouter(), log: logger, metrics: newMetrics(registry), busy: rate.Sometimes{Interval: time.Second},
		crowded: func() error { return nil },
	}
	rt.handler = middleware.ClientIPFromRemoteAddr(rt.mux)
	rt.mux.NotFound(rt.serve("", notFound))
	rt.mux.MethodNotAllowed(rt.serve("", rt.methodNotAllowed))
	return rt
}

// Get adds a route for GET and HEAD: a resource that has one must have the
// other (RFC 9110, section 9.1). net/http leaves out the body of an answer to
// HEAD. A request with other query parameters than params is refused before the
// handler is called.
func (rt *Router) Get(pattern string, handler Handler, params ...QueryParam) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		rt.handle(method, pattern, rt.serve(pattern, func(w http.ResponseWriter, r *Request) error {
			if err := checkQuery(r.URL.RawQuery, params); err != nil {
				return err
			}
			return handler(w, r)
		}))
	}
}

// Post adds a route for POST that needs an Idempotency-Key. A request with
// query parameters is refused before the handler is called.
func (rt *Router) Post(pattern string, handler KeyedHandler) {
	serve := rt.serve(pattern, func(w http.ResponseWriter, r *Request) error {
		// The key is read first because every answer echoes it.
		key, keyErr := readIdempotencyKey(w, r)
		if err := checkQuery(r.URL.RawQuery, nil); err != nil {
			return err
		}
		return handler(w, r, key, keyErr)
	})
	rt.handle(http.MethodPost, pattern, rt.atDoor(pattern, serve))
}

// PostUnkeyed adds a route for POST that takes no Idempotency-Key: its requests
// may be repeated at will. A request with query parameters is refused before
// the handler is called.
func (rt *Router) PostUnkeyed(pattern string, handler Handler) {
	rt.handle(http.MethodPost, pattern, rt.serve(pattern, func(w http.ResponseWriter, r *Request) error {
		if err := checkQuery(r.URL.RawQuery, nil); err != nil {
			return err
		}
		return handler(w, r)
	}))
}

func (rt *Router) handle(method, pattern string, handler http.HandlerFunc) {
	rt.metrics.expect(method + " " + pattern)
	rt.mux.Method(method, pattern, handler)
}

// ServeHTTP answers one request. A path means the same whichever of its letters
// are percent-encoded (RFC 3986, section 6.2.2.2), but for the slash, which
// separates only as it is.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if raw := r.URL.RawPath; raw != "" && !strings.Contains(strings.ToUpper(raw), "%2F") {
		r = r.Clone(r.Context())
		r.URL.RawPath = "" // or the mux would route by it
	}
	rt.handler.ServeHTTP(w, r)
}

// serve returns the handler with everything that the router does around it. The
// pattern is "" for a request that matches no route.
func (rt *Router) serve(pattern string, handler Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, httpRequest *http.Request) {
		start := time.Now()
		// Nothing depends on the client's connection but the reading of the
		// body: whoever hangs up afterwards must cause no failure that looks
		// like one of the database. So every call has a bound of its own.
		ctx := context.WithoutCancel(httpRequest.Context())
		ctx, _ = trace.Begin(trace.FromHeader(ctx, httpRequest.Header))
		r := newRequest(httpRequest.WithContext(ctx), pattern)
		setCommonHeaders(w.Header(), r.ID, trace.ID(ctx))
		r.client = httpRequest.Context()
		if r.Body != http.NoBody {
			// Otherwise net/http would wait for the rest of an unread body
			// before it sends the answer. ReadBody removes the header.
			w.Header()["Connection"] = closing
		}
		if err := guarded(handler, w, r); err != nil {
			refuse(w, r, err)
		}
		if w.Header().Get("Connection") == "close" {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTimeout))
		}
		rt.report(ctx, r, time.Since(start))
		if r.record.code == codeClientGone {
			panic(http.ErrAbortHandler) // net/http would answer 200 otherwise
		}
	}
}

// setCommonHeaders sets the headers that every answer has.
func setCommonHeaders(header http.Header, requestID, traceabilityID string) {
	header.Set("Request-Id", requestID)
	if traceabilityID != "" {
		header.Set("X-Traceability-Id", traceabilityID)
	}
	header["Cache-Control"], header["X-Content-Type-Options"] = noStore, noSniff
}

// Values of headers that are set in every answer. Nobody writes to them.
//
//nolint:gochecknoglobals // constants, in effect
var closing, noStore, noSniff = []string{"close"}, []string{"no-store"}, []string{"nosniff"}

// guarded turns a panic of a handler into an error, so that it costs one
// request and not the process.
func guarded(handler Handler, w http.ResponseWriter, r *Request) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &phases.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return handler(w, r)
}

func notFound(http.ResponseWriter, *Request) error { return NewProblemError(CodeNotFound, nil) }

// methodNotAllowed refuses a method that the path doesn't have, and names those
// that it has. chi also calls it for a method that it doesn't know, whatever
// the path.
func (rt *Router) methodNotAllowed(w http.ResponseWriter, r *Request) error {
	allowed := rt.methods(cmp.Or(r.URL.RawPath, r.URL.Path))
	if len(allowed) == 0 {
		return NewProblemError(CodeNotFound, nil)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return NewProblemError(CodeMethodNotAllowed, nil)
}

// Routes returns every route as its method and pattern, sorted, such as
// "GET /v1/rides/{id}". HEAD, which GET brings with it, is left out.
func (rt *Router) Routes() []string {
	var routes []string
	for _, route := range rt.mux.Routes() {
		for method := range route.Handlers {
			if method != http.MethodHead {
				routes = append(routes, method+" "+route.Pattern)
			}
		}
	}
	slices.Sort(routes)
	return routes
}

// methods returns the methods that a path has, sorted.
func (rt *Router) methods(path string) []string {
	var found []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if rt.mux.Match(chi.NewRouteContext(), method, path) {
			found = append(found, method)
		}
	}
	return found
}
