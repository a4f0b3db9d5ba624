package web

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAClientMustNameEventsToGetThem(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/event-stream": true, "TEXT/Event-Stream; charset=utf-8": true, "text/event-stream;q=0.1": true, "text/html, text/event-stream": true,
		"application/json, text/event-stream": true, "application/json;q=0.5, text/event-stream;q=0.5": true, "*/*, text/event-stream;q=0.5": true,
		"": false, "*/*": false, "text/*": false, "application/json": false, "text/event-stream;q=0": false, "text/event-streams": false,
		"application/json, text/event-stream;q=0.9": false, `x/y;z="text/event-stream"`: false, `x/y;z=", text/event-stream"`: false,
		"text/event-stream;q=NaN": false, ",": false, "text/event-stream;q": false,
	} {
		if got := AcceptsEvents(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: got %t", accept, got)
		}
	}
	if !AcceptsEvents(http.Header{"Accept": {"text/html", "text/event-stream"}}) {
		t.Error("the second line is not read")
	}
}

// served serves a handler with time limits of a server, and returns a
// connection to it.
func served(t *testing.T, handler Handler) net.Conn {
	t.Helper()
	router := NewRouter(slog.New(slog.DiscardHandler), nil)
	router.Get("/", handler)
	server := httptest.NewUnstartedServer(router)
	server.Config.ReadTimeout = 50 * time.Millisecond
	server.Config.ReadHeaderTimeout = 20 * time.Second // else it would be that of the whole request
	server.Start()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = conn.Close() }) // before the server waits for the handler
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestAWaitingClientIsGoneOnlyWhenItHangsUp: a wait may take longer than the
// reading of a request.
func TestAWaitingClientIsGoneOnlyWhenItHangsUp(t *testing.T) {
	t.Parallel()
	waits, gone := make(chan struct{}), make(chan struct{})
	conn := served(t, func(_ http.ResponseWriter, r *Request) error {
		select {
		case <-r.Gone():
			t.Error("a client that waits is taken for gone")
			close(waits)
			return nil
		case <-time.After(500 * time.Millisecond): // ten times the limit
		}
		close(waits)
		<-r.Gone()
		close(gone)
		return ErrClientGone
	})
	<-waits
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed that the client hung up")
	}
}

// TestAStreamIsServerSentEvents: what is sent is there at once, a comment is no
// event, and the end is a whole one.
func TestAStreamIsServerSentEvents(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	conn := served(t, func(w http.ResponseWriter, r *Request) error {
		stream := StreamEvents(w, r)
		defer stream.End()
		for _, send := range []func() error{
			func() error { return stream.Send("boat", []byte("{\"id\":1}\n")) },
			stream.KeepAlive,
			func() error { return stream.Send("boat", []byte("{\"id\":2}")) },
		} {
			if err := send(); err != nil {
				t.Error(err)
			}
			<-next
		}
		return nil
	})
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if !response.Close || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("the stream begins with %v, close %t", response.Header, response.Close)
	}
	for _, want := range []string{"event: boat\ndata: {\"id\":1}\n\n", ": keep-alive\n\n", "event: boat\ndata: {\"id\":2}\n\n"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
}

// TestAStreamThatIsNotReadEnds: a client that takes nothing any more holds up
// nothing for longer than a write may take.
func TestAStreamThatIsNotReadEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan error)
	served(t, func(w http.ResponseWriter, r *Request) error {
		stream := StreamEvents(w, r)
		defer stream.End()
		var err error
		for line := []byte(strings.Repeat("x", 1<<20)); err == nil; {
			err = stream.Send("boat", line)
		}
		ended <- err
		return nil
	})
	select {
	case err := <-ended:
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("the stream ended with %v", err)
		}
	case <-time.After(2 * writeTimeout):
		t.Error("the stream goes on for ever")
	}
}
