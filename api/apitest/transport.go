package apitest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rocketrides/rocketrides/api"
)

// theChecker is that of the document.
var theChecker = sync.OnceValues(func() (*Checker, error) { return NewChecker(api.Document()) })

// A Transport is an [http.RoundTripper] that compares every exchange with the
// document, and makes the test fail if it differs. It is safe for concurrent
// use.
type Transport struct {
	T    testing.TB
	Base http.RoundTripper // nil is http.DefaultTransport
	// Record is called with every exchange, if it isn't nil.
	Record func(Exchange)
}

// RoundTrip makes a request. The answer is read to its end before it is
// returned, except a stream of events, which is compared when it is closed.
func (tr Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	e := Exchange{Method: request.Method, URL: request.URL.RequestURI(), RequestHeader: request.Header.Clone()}
	if request.Body != nil && request.Body != http.NoBody {
		body, err := io.ReadAll(request.Body)
		_ = request.Body.Close()
		if err != nil {
			return nil, err
		}
		e.RequestBody = body
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	base := tr.Base
	if base == nil {
		base = http.DefaultTransport
	}
	response, err := base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	e.Status, e.Header = response.StatusCode, response.Header.Clone()
	if strings.HasPrefix(e.Header.Get("Content-Type"), "text/event-stream") {
		response.Body = &stream{ReadCloser: response.Body, ended: func(body []byte) { e.Body = body; tr.check(e) }}
		return response, nil
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	if err == nil {
		e.Body = body
		tr.check(e)
	}
	return response, nil
}

func (tr Transport) check(e Exchange) {
	tr.T.Helper()
	checker, err := theChecker()
	if err != nil {
		tr.T.Error(err)
		return
	}
	if err := checker.Check(e); err != nil {
		tr.T.Error(err)
	}
	if tr.Record != nil {
		tr.Record(e)
	}
}

// failing is a reader that fails with an error, or is at its end.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

// A stream keeps what is read of a body until it is closed.
type stream struct {
	io.ReadCloser

	kept  []byte
	ended func([]byte)
}

func (s *stream) Read(buffer []byte) (int, error) {
	n, err := s.ReadCloser.Read(buffer)
	s.kept = append(s.kept, buffer[:n]...)
	return n, err
}

// Close compares what was read. A line that is not whole is left out.
func (s *stream) Close() error {
	if s.ended != nil {
		s.ended(s.kept[:bytes.LastIndexByte(s.kept, '\n')+1])
		s.ended = nil
	}
	return s.ReadCloser.Close()
}
