package wire

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// HTTP wraps the connections of one [http.Transport] that speaks HTTP/1.1
// without TLS. Its frames are the two halves of the header, and pieces of the
// body. It is safe for concurrent use.
type HTTP struct{ line }

// NewHTTP returns a wrapper whose plan has no faults.
func NewHTTP() *HTTP {
	always := func([]byte) bool { return true }
	return &HTTP{line: line{
		plan: Nothing, conns: map[*conn]bool{},
		protocol: protocol{
			ends: requestEnds, answer: replyAnswer, whole: wholeRequest, counts: always, idle: always,
			drops: func([]byte) bool { return false },
		},
	}}
}

// Dial connects to the server. It is an http.Transport's DialContext.
func (h *HTTP) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, network, address)
}

// Frames returns how many frames a request has.
func (h *HTTP) Frames(message []byte) int { return len(requestEnds(message)) }

// id matches a segment of a path that is the id of an object.
var id = regexp.MustCompile(`/[a-z]+_[A-Za-z0-9]{12,}`)

// Summary returns the method and the path of a request, without ids.
func (h *HTTP) Summary(message []byte) string {
	line, _, _ := bytes.Cut(message, []byte("\r\n"))
	words := strings.Fields(string(line))
	if len(words) < 2 {
		return string(line)
	}
	path, _, _ := strings.Cut(words[1], "?")
	return words[0] + " " + id.ReplaceAllString(path, "/{id}")
}

// The sizes of the pieces of bodies, in bytes.
const (
	requestPiece = 128
	replyPiece   = 512
)

// requestEnds returns where the frames of a request end.
func requestEnds(message []byte) []int { return httpEnds(message, requestPiece) }

// httpEnds returns where the frames of an HTTP message end.
func httpEnds(message []byte, piece int) []int {
	head := bytes.Index(message, []byte("\r\n\r\n"))
	if head < 0 {
		return []int{len(message)}
	}
	head += 4
	ends := []int{head / 2, head}
	for at := head + piece; at < len(message); at += piece {
		ends = append(ends, at)
	}
	if len(message) > head {
		ends = append(ends, len(message))
	}
	return ends
}

// wholeRequest reports whether a request is whole: its body is as long as its
// Content-Length, or ends with an empty chunk (RFC 9112, section 7.1), or there
// is none.
func wholeRequest(message []byte) bool {
	head, body, found := bytes.Cut(message, []byte("\r\n\r\n"))
	if bytes.Contains(head, []byte("Transfer-Encoding: chunked")) {
		return found && bytes.HasSuffix(body, []byte("0\r\n\r\n"))
	}
	length, _ := contentLength(head)
	return found && len(body) >= length
}

// replyAnswer returns where the frames of a reply end, and reports whether it
// is whole, by its Content-Length.
func replyAnswer(stream []byte) ([]int, bool) {
	head, body, found := bytes.Cut(stream, []byte("\r\n\r\n"))
	length, given := contentLength(head)
	return httpEnds(stream, replyPiece), found && given && len(body) >= length
}

// contentLength returns the Content-Length in a header, and reports whether
// there is one.
func contentLength(head []byte) (int, bool) {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if http.CanonicalHeaderKey(string(name)) == "Content-Length" {
			length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			return length, err == nil
		}
	}
	return 0, false
}
