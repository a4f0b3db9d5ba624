// Package apitest compares what is sent and answered over HTTP with the OpenAPI
// document of package api. What the document lacks is a fault: a route, a
// status, a header, a query parameter, a field.
//
//   - transport.go: a RoundTripper that compares every exchange of a test
//   - checker.go: the comparison with one document
//   - route.go: which operation a request is for
//   - headers.go: what is compared of headers and query parameters
//
// Schemas and parameters are validated by kin-openapi, which looks at nothing
// that a document doesn't name; the rest is here.
package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// An Exchange is a request and its answer.
type Exchange struct {
	Method, URL   string
	RequestHeader http.Header
	RequestBody   []byte
	Status        int
	Header        http.Header
	Body          []byte
}

// A Checker compares exchanges with a document. It is safe for concurrent use.
type Checker struct{ doc *openapi3.T }

// NewChecker returns a checker of a document in YAML, or what is wrong with the
// document.
func NewChecker(document []byte) (*Checker, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("loading the document: %w", err)
	}
	return &Checker{doc: doc}, nil
}

// Doc returns the document. It must not be changed.
func (c *Checker) Doc() *openapi3.T { return c.doc }

// Check returns all faults of an exchange, or nil. A request need not be valid
// if it was refused for what it is.
func (c *Checker) Check(e Exchange) error {
	request, err := http.NewRequestWithContext(context.Background(), e.Method, e.URL, bytes.NewReader(e.RequestBody))
	if err != nil {
		return fmt.Errorf("%s is no request: %w", e.Method, err)
	}
	request.Header = e.RequestHeader.Clone()
	route, err := c.route(request)
	if err != nil {
		return err
	}
	var faults []error
	if accepted(e.Status) && route.operation != nil {
		faults = append(faults, route.checkRequest(request))
	}
	faults = append(faults, route.checkAnswer(request, e))
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%s %s, answered %d %s, is not as the OpenAPI document says: %w", e.Method, request.URL.Path, e.Status, e.Body, err)
	}
	return nil
}

// accepted reports whether only a valid request can have this answer.
func accepted(status int) bool {
	return status < http.StatusBadRequest || status == http.StatusPaymentRequired || status == http.StatusConflict
}

func (r route) checkRequest(request *http.Request) error {
	input := r.input(request)
	return errors.Join(r.undocumentedParameters(request), r.undocumentedBody(request), openapi3filter.ValidateRequest(request.Context(), input))
}

func (r route) checkAnswer(request *http.Request, e Exchange) error {
	documented := r.responses.Value(strconv.Itoa(e.Status))
	if documented == nil || documented.Value == nil {
		return errors.New("the status is not documented for " + r.name())
	}
	err := checkHeaders(documented.Value.Headers, e.Header)
	content := documented.Value.Content
	switch {
	case len(content) == 0 && len(e.Body) > 0:
		return errors.Join(err, errors.New("a body is not documented"))
	case len(content) == 0:
		return err
	}
	mediaType := content.Get(e.Header.Get("Content-Type"))
	switch {
	case mediaType == nil:
		return errors.Join(err, fmt.Errorf("the type %q is not documented", e.Header.Get("Content-Type")))
	case request.Method == http.MethodHead:
		return err
	case mediaType.Extensions["x-events"] != nil:
		return errors.Join(err, r.checker.checkEvents(mediaType, e.Body))
	}
	return errors.Join(err, checkBody(mediaType.Schema.Value, e.Header.Get("Content-Type"), e.Body))
}

// checkBody compares a body with the schema of its media type. What is no JSON
// is text.
func checkBody(schema *openapi3.Schema, contentType string, body []byte) error {
	mediaType, _, _ := strings.Cut(contentType, ";")
	if strings.HasSuffix(mediaType, "json") {
		return CheckJSON(schema, body)
	}
	return schema.VisitJSON(string(body))
}

// checkEvents compares each event of a stream with the schema that the document
// names for it in x-events.
func (c *Checker) checkEvents(mediaType *openapi3.MediaType, stream []byte) error {
	schemas, _ := mediaType.Extensions["x-events"].(map[string]any)
	var faults []error
	name := ""
	for line := range strings.Lines(string(stream)) {
		if event, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(event)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		schema, err := c.schema(schemas[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("event %q: %w", name, err))
			continue
		}
		faults = append(faults, CheckJSON(schema, []byte(data)))
	}
	return errors.Join(faults...)
}

// CheckCallback compares a callback, as its receiver got it, with one that the
// document has under an operation.
func (c *Checker) CheckCallback(operationID, name string, header http.Header, body []byte) error {
	for _, item := range c.doc.Paths.Map() {
		for _, operation := range item.Operations() {
			callback := operation.Callbacks[name]
			if operation.OperationID != operationID || callback == nil {
				continue
			}
			for path, told := range callback.Value.Map() {
				request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/", bytes.NewReader(body))
				if err != nil {
					return err
				}
				request.Header = header.Clone()
				r := route{checker: c, path: path, item: told, operation: told.Post}
				return r.checkRequest(request)
			}
		}
	}
	return fmt.Errorf("the document has no callback %s of %s", name, operationID)
}
