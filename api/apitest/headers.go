package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Headers that no document names: those of the connection, and those that
// OpenAPI describes in other ways.
var (
	ofAnswers  = []string{"Connection", "Content-Length", "Content-Type", "Date", "Transfer-Encoding"}
	ofRequests = []string{"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Length", "Content-Type", "User-Agent"}
)

// checkHeaders compares the headers of an answer with those that are
// documented.
func checkHeaders(documented openapi3.Headers, header http.Header) error {
	var faults []error
	schemas := map[string]*openapi3.Header{}
	for name, ref := range documented {
		schemas[http.CanonicalHeaderKey(name)] = ref.Value
		if ref.Value.Required && len(header.Values(name)) == 0 {
			faults = append(faults, fmt.Errorf("the header %s is missing", name))
		}
	}
	for name, values := range header {
		schema := schemas[name]
		switch {
		case slices.Contains(ofAnswers, name):
		case schema == nil:
			faults = append(faults, fmt.Errorf("the header %s: %q is not documented", name, values))
		case len(values) != 1:
			faults = append(faults, fmt.Errorf("the header %s is there %d times", name, len(values)))
		default:
			if err := schema.Schema.Value.VisitJSON(values[0]); err != nil {
				faults = append(faults, fmt.Errorf("the header %s: %q is not as documented: %w", name, values[0], err))
			}
		}
	}
	return errors.Join(faults...)
}

// undocumentedParameters returns the headers, the query parameters and the
// variable parts of the path of a request that the document lacks.
func (r route) undocumentedParameters(request *http.Request) error {
	var faults []error
	has := func(in, name string) bool {
		for _, param := range r.operation.Parameters {
			if param.Value.In == in && strings.EqualFold(param.Value.Name, name) {
				return true
			}
		}
		return false
	}
	for name := range request.Header {
		ignored := name == "Idempotency-Key" && request.Method != http.MethodPost // some clients send it with everything
		if !ignored && !slices.Contains(ofRequests, name) && !has(openapi3.ParameterInHeader, name) {
			faults = append(faults, fmt.Errorf("the request's header %s is not documented", name))
		}
	}
	for name := range r.params {
		if !has(openapi3.ParameterInPath, name) {
			faults = append(faults, fmt.Errorf("the path's %s is not documented", name))
		}
	}
	for name := range request.URL.Query() {
		if !has(openapi3.ParameterInQuery, name) {
			faults = append(faults, fmt.Errorf("the query parameter %s is not documented", name))
		}
	}
	return errors.Join(faults...)
}

// undocumentedBody returns an error for a body of a media type that the document
// lacks.
func (r route) undocumentedBody(request *http.Request) error {
	if request.ContentLength == 0 {
		return nil
	}
	contentType := request.Header.Get("Content-Type")
	if body := r.operation.RequestBody; body == nil || body.Value.Content.Get(contentType) == nil {
		return fmt.Errorf("a request's body of the type %q is not documented", contentType)
	}
	return nil
}

// schema returns the schema that a value such as {"$ref": "…"} in an extension
// names.
func (c *Checker) schema(value any) (*openapi3.Schema, error) {
	reference, _ := value.(map[string]any)
	name, _ := reference["$ref"].(string)
	return c.Schema(strings.TrimPrefix(name, "#/components/schemas/"))
}

// Schema returns a schema of the document by its name.
func (c *Checker) Schema(name string) (*openapi3.Schema, error) {
	found := c.doc.Components.Schemas[name]
	if found == nil || found.Value == nil {
		return nil, fmt.Errorf("the document has no schema %q", name)
	}
	return found.Value, nil
}

// CheckJSON compares a document in JSON with a schema.
func CheckJSON(schema *openapi3.Schema, document []byte) error {
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		return fmt.Errorf("reading %s: %w", document, err)
	}
	return schema.VisitJSON(value, openapi3.MultiErrors())
}
