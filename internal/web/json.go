package web

import (
	"bytes"
	"encoding/json"
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

// ReadJSON reads the body and returns its canonical form.
func ReadJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	mediaType, more, err := mime.ParseMediaType(strings.Join(r.Header.Values("Content-Type"), ", "))
	if err != nil || mediaType != "application/json" || strings.Join(r.Header.Values("Content-Encoding"), "") != "" ||
		more["charset"] != "" && !strings.EqualFold(more["charset"], "utf-8") {
		return nil, NewProblemError(CodeUnsupportedMediaType, err)
	}
	if r.ContentLength > maxBody {
		return nil, NewProblemError(CodeBodyTooLarge, nil) // also instead of 100 Continue
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{}) // the payment may take longer than the body
		w.Header().Del("Connection")             // nothing is left to wait for
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, NewProblemError(CodeBodyTooLarge, err)
	}
	if err != nil {
		return nil, cutShort(err)
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

// cutShort is the answer to a body that did not arrive whole, which is no fault
// of the document's.
func cutShort(err error) error {
	problem := NewProblemError(CodeInvalidJSON, fmt.Errorf("reading body: %w", err))
	problem.Problem.Detail = "The body did not arrive whole and in time. Send the request again."
	problem.Problem.Retryable = true
	return problem
}

// EncodeJSON returns value as one line of JSON, without the escapes that HTML
// would need.
func EncodeJSON(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encoding body: %w", err)
	}
	return body.Bytes(), nil
}
