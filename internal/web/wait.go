package web

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Gone returns a channel that is closed when the client hangs up. It is for a
// handler that waits: nothing else may depend on the connection. A client that
// hangs up before the handler has read its body is noticed late.
func (r *Request) Gone() <-chan struct{} { return r.client.Done() }

// RecordWait notes how long the answer was held back because the client
// preferred to wait. The log shows it, and the time of the request in the
// metrics is without it.
func (r *Request) RecordWait(d time.Duration) { r.record.waited += d }

const eventStreamType = "text/event-stream"

// AcceptsEvents reports whether the client asks for a stream of events. It must
// name text/event-stream in Accept (RFC 9110, section 12.5.1), and like it no
// less than JSON.
func AcceptsEvents(header http.Header) bool {
	liking := map[string]float64{}
	for _, line := range header.Values("Accept") {
		for _, element := range elements(line, ',') {
			mediaType, params, err := mime.ParseMediaType(element)
			if err != nil {
				continue
			}
			liking[mediaType] = 1
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
				liking[mediaType] = q
			}
		}
	}
	return liking[eventStreamType] > 0 && liking[eventStreamType] >= liking["application/json"]
}

// An EventStream is an answer in the form of server-sent events (WHATWG HTML,
// section 9.2). It must not be used by two goroutines at once. When Send or
// KeepAlive fails, the client is gone.
type EventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// StreamEvents begins an answer that is a stream of events. After that the
// handler can refuse nothing any more: it calls End and returns nil. The
// connection is closed then, so that no time limit of the stream is left on it.
func StreamEvents(w http.ResponseWriter, r *Request) EventStream {
	r.record.status = http.StatusOK
	w.Header().Set("Content-Type", eventStreamType)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold the events back
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	return EventStream{w: w, control: http.NewResponseController(w)}
}

// Send sends one event. The data must be one line, with or without its end.
func (s EventStream) Send(event string, data []byte) error {
	return s.write("event: " + event + "\ndata: " + strings.TrimSuffix(string(data), "\n") + "\n\n")
}

// KeepAlive sends a comment, which clients ignore: proxies close connections on
// which nothing is said, and a client that is gone is noticed.
func (s EventStream) KeepAlive() error { return s.write(": keep-alive\n\n") }

// End lets net/http write the end of the stream, after a time in which nothing
// was written.
func (s EventStream) End() { _ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) }

// write writes a part of the stream and sends it off.
func (s EventStream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
