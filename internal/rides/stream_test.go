package rides

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
)

// A stream is what a client gets of a ride's events.
type stream struct {
	header   http.Header
	body     io.ReadCloser
	lines    *bufio.Scanner
	comments int
}

// follow opens the stream of a key's ride. A stream that doesn't end is cut off.
func (h *harness) follow(t *testing.T, key string) *stream {
	t.Helper()
	c := h.getCall(key, "")
	c.header.Set("Accept", "text/event-stream")
	ctx, cut := context.WithTimeout(t.Context(), 25*time.Second)
	t.Cleanup(cut)
	response, err := h.roundTrip(t, h.newRequest(ctx, t, c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" ||
		response.Header.Get("X-Accel-Buffering") != "no" || response.Header.Get("Cache-Control") != "no-store" ||
		!strings.HasPrefix(response.Header.Get("Request-Id"), "req_") {
		t.Fatalf("the stream begins with %s %v", response.Status, response.Header)
	}
	return &stream{header: response.Header, body: response.Body, lines: bufio.NewScanner(response.Body)}
}

// next returns the ride of the next event, and false at the end of the stream.
// It skips comments, as clients do.
func (s *stream) next(t *testing.T) (ride Ride, ok bool) {
	t.Helper()
	var event []string
	for s.lines.Scan() {
		switch line := s.lines.Text(); {
		case line != "" && !strings.HasPrefix(line, ":"):
			event = append(event, line)
		case line != "":
			s.comments++
		case len(event) > 0: // a blank line ends an event
			data, found := strings.CutPrefix(event[len(event)-1], "data: ")
			if len(event) != 2 || event[0] != "event: ride" || !found {
				t.Fatalf("an event is %q", event)
			}
			if err := json.Unmarshal([]byte(data), &ride); err != nil {
				t.Fatalf("%v in %s", err, data)
			}
			return ride, true
		}
	}
	if err := s.lines.Err(); err != nil || len(event) > 0 {
		t.Errorf("the stream is cut off: %v, after %q", err, event)
	}
	return Ride{}, false
}

// rest returns the rides of all events until the end of the stream.
func (s *stream) rest(t *testing.T) []Ride {
	t.Helper()
	var all []Ride
	for {
		ride, ok := s.next(t)
		if !ok {
			return all
		}
		all = append(all, ride)
	}
}

// TestAStreamShowsEachChange: the ride at once, then each change of its state,
// and the end when it is at rest.
func TestAStreamShowsEachChange(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	hail := h.inBackground(t, h.hailCall("k", ""))
	reached()
	s := h.follow(t, "k")
	first, _ := s.next(t)
	if first.Status != StatusPending || first.Charge != nil {
		t.Errorf("the first event is %+v", first)
	}
	release()
	made := hail().must(t, 201, "").ride
	if diff := cmp.Diff([]Ride{made}, s.rest(t)); diff != "" {
		t.Errorf("the other events (-want +got): %s", diff)
	}
	// A stream of a ride that is at rest has one event.
	if diff := cmp.Diff([]Ride{made}, h.follow(t, "k").rest(t)); diff != "" {
		t.Errorf("the stream of a ride at rest (-want +got): %s", diff)
	}
	// The refund of a charged ride may be on its way for days.
	h.exec(t, `UPDATE rides SET refund_id = 're_1', refund_status = 'pending', refund_amount = 1`)
	s = h.follow(t, "k")
	s.next(t)
	h.exec(t, `UPDATE rides SET refund_status = 'succeeded', status = 'canceled'`)
	if rest := s.rest(t); len(rest) != 1 || rest[0].Status != StatusCanceled {
		t.Errorf("after the refund the stream has %+v", rest)
	}
	h.waiting(t, 0)
}

// TestWhatIsAnsweredInsteadOfAStream: a refusal, JSON for who doesn't ask for
// events, and headers for HEAD.
func TestWhatIsAnsweredInsteadOfAStream(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	reached, release := h.holdCharge(t)
	defer release()
	h.send(t, h.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	events := http.Header{"Accept": {"text/event-stream"}}
	unknown, anonymous, theirs := h.getCall("unknown", ""), h.getCall("k", ""), h.getCall("k", "")
	unknown.header, anonymous.header, theirs.header = events, events, events
	anonymous.as, theirs.as = accounts.Credentials{}, h.second
	h.send(t, unknown).must(t, 404, web.CodeNotFound)
	h.send(t, theirs).must(t, 404, web.CodeNotFound)
	h.send(t, anonymous).must(t, 401, web.CodeUnauthenticated)
	for _, accept := range []string{"*/*", "application/json", "text/*"} {
		c := h.getCall("k", "")
		c.header.Set("Accept", accept)
		h.send(t, c).must(t, 200, "")
	}
	head := h.getCall("k", "")
	head.method, head.header = "HEAD", events
	response, err := h.roundTrip(t, h.newRequest(t.Context(), t, head))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD is answered with %s %v", response.Status, response.Header)
	}
	h.waiting(t, 0)
}

// TestAStreamEndsWithItsKey: a revoked API key, or a disabled account, ends the
// streams that it has opened, and no other. Until then a silent stream is kept
// alive by comments.
func TestAStreamEndsWithItsKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.service.pulse = 20 * time.Millisecond
	reached, release := h.holdCharge(t)
	defer release()
	h.send(t, h.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	store := accounts.Store{Pool: h.pool}
	follow := func(key accounts.APIKey) *stream {
		t.Helper()
		other := *h
		other.visa.APIKey = key
		s := other.follow(t, "k")
		s.next(t)
		return s
	}
	id, revoked, err := store.CreateKey(t.Context(), h.visa.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	ends, stays := follow(revoked), follow(h.visa.APIKey)
	if err := store.RevokeKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if events := ends.rest(t); len(events) > 0 || ends.comments == 0 {
		t.Errorf("a stream whose key is revoked had %d more events and %d comments", len(events), ends.comments)
	}
	h.waiting(t, 1)
	if err := store.Disable(t.Context(), h.visa.AccountID); err != nil {
		t.Fatal(err)
	}
	if events := stays.rest(t); len(events) > 0 {
		t.Errorf("a stream whose account is disabled had %d more events", len(events))
	}
	h.waiting(t, 0)
}

// TestACutStreamLeavesNothingBehind: when the clients of fifty streams have
// hung up, this process has as many goroutines as before.
func TestACutStreamLeavesNothingBehind(t *testing.T) { //nolint:paralleltest // it counts the goroutines of the process
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, 201, "")
	reached, release := h.holdCharge(t)
	defer release()
	h.send(t, h.hailCall("k", "respond-async")).must(t, 202, "")
	reached()
	transport := &http.Transport{}
	before := runtime.NumGoroutine()
	const streams = 50
	ctx, cut := context.WithCancel(t.Context())
	var opened, cutOff sync.WaitGroup
	opened.Add(streams)
	for range streams {
		cutOff.Go(func() {
			c := h.getCall("k", "")
			c.header.Set("Accept", "text/event-stream")
			response, err := transport.RoundTrip(h.newRequest(ctx, t, c))
			opened.Done()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body) // until it is cut
			_ = response.Body.Close()
		})
	}
	opened.Wait()
	h.waiting(t, streams)
	cut()
	cutOff.Wait()
	h.waiting(t, 0)
	transport.CloseIdleConnections()
	pgtest.Eventually(t, "the goroutines of the streams have ended", func() bool { return runtime.NumGoroutine() <= before })
}
