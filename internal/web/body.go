package web

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
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
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
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
// body equals {}.
func ReadOptionalJSON(w http.ResponseWriter, r *Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return []byte("{}"), nil
	}
	return ReadJSON(w, r)
}

// checkMediaType refuses everything but JSON in UTF-8 that is not compressed.
func checkMediaType(header http.Header) error {
	mediaType, params, err := mime.ParseMediaType(strings.Join(header.Values("Content-Type"), ", "))
	charset := params["charset"]
	if err != nil || mediaType != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") ||
		strings.Join(header.Values("Content-Encoding"), "") != "" {
		return NewProblemError(CodeUnsupportedMediaType, err)
	}
	return nil
}

func readBody(w http.ResponseWriter, r *Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, NewProblemError(CodeBodyTooLarge, nil) // before net/http sends 100 Continue
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
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

// incomplete is the refusal of a body that did not arrive. The same document
// may be sent again.
func incomplete(cause error) error {
	refusal := NewProblemError(CodeInvalidJSON, fmt.Errorf("reading body: %w", cause))
	refusal.Problem.Detail = "The body did not arrive whole and in time. Send the request again."
	refusal.Problem.Retryable = true
	return refusal
}
