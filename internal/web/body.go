package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// maxBody is the most that a request's body may have.
	maxBody = 64 << 10
	// bodyTimeout bounds the reading of a body.
	bodyTimeout = 10 * time.Second
)

// ReadJSON reads the body, which must be one JSON object, and returns its
// canonical form. It checks, in this order, the media type, the size and the
// JSON; the error is the refusal.
func ReadJSON(w http.ResponseWriter, r *Request) ([]byte, error) {
	if err := checkMediaType(w, r); err != nil {
		return nil, err
	}
	body, err := ReadBody(w, r, maxBody)
	if err != nil {
		return nil, err
	}
	canonical, err := Canonical(body)
	if err != nil {
		return nil, err
	}
	if canonical[0] != '{' {
		return nil, &JSONError{Reason: "The body is not a JSON object"}
	}
	return canonical, nil
}

// ReadOptionalJSON is ReadJSON for a route whose requests may have no body: no
// body equals {}. So does a body of unknown length that turns out to be empty,
// which some clients send.
func ReadOptionalJSON(w http.ResponseWriter, r *Request) ([]byte, error) {
	empty := r.ContentLength == 0
	if r.ContentLength < 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		body := bufio.NewReader(r.Body)
		_, err := body.Peek(1)
		empty = errors.Is(err, io.EOF)
		r.Body = struct {
			io.Reader
			io.Closer
		}{body, r.Body}
	}
	if empty {
		_, err := ReadBody(w, r, 0)
		return []byte("{}"), err
	}
	return ReadJSON(w, r)
}

// checkMediaType refuses everything but JSON in UTF-8 that is not compressed. A
// header says what would have been right (RFC 9110, section 15.5.16).
func checkMediaType(w http.ResponseWriter, r *Request) error {
	mediaType, params, err := mime.ParseMediaType(strings.Join(r.Header.Values("Content-Type"), ", "))
	charset := params["charset"]
	isJSON := err == nil && mediaType == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
	encoding := strings.Join(r.Header.Values("Content-Encoding"), ", ")
	isPlain := encoding == "" || strings.EqualFold(encoding, "identity")
	if isJSON && isPlain {
		return nil
	}
	if !isJSON {
		w.Header().Set("Accept", "application/json")
	}
	if !isPlain {
		w.Header().Set("Accept-Encoding", "identity")
	}
	return NewProblemError(CodeUnsupportedMediaType, err)
}

// ReadBody reads the body, of at most limit bytes, whatever it is. The error is
// the refusal.
func ReadBody(w http.ResponseWriter, r *Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, NewProblemError(CodeBodyTooLarge, nil) // before net/http sends 100 Continue
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, NewProblemError(CodeBodyTooLarge, err)
	}
	if err != nil {
		return nil, incomplete(err)
	}
	_ = control.SetReadDeadline(time.Time{}) // answering may take longer than reading
	w.Header().Del("Connection")             // all of the body is read, so the connection can be used again
	return body, nil
}

// incomplete is the refusal of a body that could not be read to its end: it
// came too slowly, the client is gone, or its transfer coding is malformed. The
// same document may be sent again.
func incomplete(cause error) error {
	cause = fmt.Errorf("reading body: %w", cause)
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		return NewProblemError(CodeRequestTimeout, cause)
	}
	if _, lost := errors.AsType[*net.OpError](cause); lost || errors.Is(cause, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrClientGone, cause)
	}
	refusal := NewProblemError(CodeInvalidJSON, cause)
	refusal.Problem.Detail = "The body did not arrive whole. Send the request again."
	refusal.Problem.Retryable = true
	return refusal
}
