package callbacks

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a receiver does costs its own message at most the time limit, and little
// memory.
func TestReceiversReachLimits(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, test := range map[string]struct {
		serve func(w io.Writer) error
		want  string // the status, or the error
	}{
		"hangs":                    {func(io.Writer) error { return nil }, "no answer in time"},
		"stops in the header":      {func(w io.Writer) error { return write(w, ok+"A: ") }, "no answer in time"},
		"sends endless headers":    {func(w io.Writer) error { return flood(w, ok, "A: "+strings.Repeat("a", 1000)+"\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends one endless header": {func(w io.Writer) error { return flood(w, ok+"A: ", strings.Repeat("a", 1000)) }, "the connection broke, or what came was not HTTP"},
		"informs without end":      {func(w io.Writer) error { return flood(w, "", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends no HTTP":            {func(w io.Writer) error { return write(w, "220 secret.example ESMTP\r\n") }, "the connection broke, or what came was not HTTP"},
		"sends an endless body":    {func(w io.Writer) error { return flood(w, ok+"\r\n", strings.Repeat("a", 1000)) }, "200"},
		"stops in the body":        {func(w io.Writer) error { return write(w, ok+"Content-Length: 9\r\n\r\na") }, "200"},
		"fails in the body":        {func(w io.Writer) error { return write(w, "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\na") }, "500"},
		"sends a broken gzip":      {func(w io.Writer) error { return write(w, ok+"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na") }, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, written := rawReceiver(t, test.serve)
			start := time.Now()
			answer, err := newSender(loopback(), shortLimits(), nil, nil).Send(t.Context(), message(url))
			got := strconv.Itoa(answer.Status)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if took := time.Since(start); took > shortLimits().total+10*time.Second {
				t.Errorf("it took %s", took)
			}
			// What the kernel buffers is written, but not read.
			if n := <-written; n > 16<<20 {
				t.Errorf("the receiver could send %d bytes", n)
			}
		})
	}
}

// rawReceiver accepts one connection, reads a request, and calls serve. What
// serve has written arrives when the connection has ended.
func rawReceiver(t *testing.T, serve func(io.Writer) error) (url string, written <-chan int64) {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	sum := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		defer conn.Close() //nolint:errcheck // it may be broken
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		w := &counter{Writer: conn}
		if serve(w) == nil {
			_, _ = io.Copy(io.Discard, conn) // until the sender hangs up
		}
		sum <- w.n
	}()
	return "http://" + listener.Addr().String(), sum
}

type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// flood writes without end.
func flood(w io.Writer, first, again string) error {
	err := write(w, first)
	for err == nil {
		err = write(w, again)
	}
	return err
}

// The limits are those that the documents state.
func TestLimits(t *testing.T) {
	t.Parallel()
	want := limits{
		dial: 5 * time.Second, handshake: 5 * time.Second, body: time.Second, total: 15 * time.Second,
		headerBytes: 16384, bodyBytes: 4096,
	}
	s := NewSender(NewGuard())
	if s.limits != want {
		t.Errorf("%+v", s.limits)
	}
	for _, client := range []*http.Client{s.secure, s.plain} {
		transport, ok := client.Transport.(*http.Transport)
		if !ok || transport.TLSHandshakeTimeout != want.handshake || transport.MaxResponseHeaderBytes != want.headerBytes {
			t.Errorf("%+v", client.Transport)
		}
	}
}

// A receiver may take 15 seconds to acknowledge, wherever in its answer it
// spends them, and no more.
func TestReceiversHaveFifteenSeconds(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "HTTP/1.1 20", "HTTP/1.1 103 Early Hints\r\n\r\n"} {
		for after, want := range map[time.Duration]bool{14900 * time.Millisecond: true, 15100 * time.Millisecond: false} {
			synctest.Test(t, func(t *testing.T) {
				answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
				rest := strings.TrimPrefix(answer, first)
				var served sync.WaitGroup
				s := NewSender(loopback())
				s.plain.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { //nolint:forcetypeassert // it panics
					ours, theirs := net.Pipe()
					served.Go(func() {
						defer theirs.Close() //nolint:errcheck // nobody reads on
						if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil || write(theirs, first) != nil {
							return
						}
						time.Sleep(after)
						_ = write(theirs, rest)
					})
					return ours, nil
				}
				got, err := s.Send(t.Context(), message("http://127.0.0.1:1/"))
				if (err == nil && got.Status == http.StatusOK) != want {
					t.Errorf("after %q and %s: %+v, %v", first, after, got, err)
				}
				served.Wait()
			})
		}
	}
}
