package web

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// RefuseCrowds makes the router ask, before it looks at a request with an
// Idempotency-Key, whether too many others are before it. The request is
// refused if there is an error, which must be [phases.ErrBusy]. Call it before
// the router serves.
func (rt *Router) RefuseCrowds(crowded func() error) { rt.crowded = crowded }

// atDoor calls next, unless the request is refused because of a crowd.
//
// In a flood there are many refusals for each request that is let in, and those
// inside need the processors. So a refusal costs little: nothing is looked at
// that the answer doesn't show, and nothing is made for each that is the same
// for all.
func (rt *Router) atDoor(pattern string, next http.HandlerFunc) http.HandlerFunc {
	const requestID = `"request_id":"`
	before, after, _ := strings.Cut(string(NewProblem(CodeUnavailable).Encode()), requestID)
	before += requestID
	return func(w http.ResponseWriter, httpRequest *http.Request) {
		start := time.Now()
		err := rt.crowded()
		if err == nil {
			next(w, httpRequest)
			return
		}
		ctx := trace.FromHeader(httpRequest.Context(), httpRequest.Header)
		r := newRequest(httpRequest, pattern)
		header := w.Header()
		setCommonHeaders(header, r.ID, trace.ID(ctx))
		_, _ = readIdempotencyKey(w, r)
		if r.ContentLength < 0 || r.ContentLength > maxBody {
			header.Set("Connection", "close") // of any other body, net/http reads the rest
		}
		header.Set("Retry-After", strconv.Itoa(1+rand.IntN(busySpread))) //nolint:gosec // spreading load needs no secrecy
		header.Set("Content-Type", ProblemType)
		r.record.code, r.record.cause = CodeUnavailable, err
		answer(w, r, http.StatusServiceUnavailable, []byte(before+r.ID+after))
		rt.report(ctx, r, time.Since(start))
	}
}
