package apitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// A route is what the document says of a request's path and method.
type route struct {
	checker   *Checker
	path      string
	item      *openapi3.PathItem
	operation *openapi3.Operation // nil for what no route takes
	responses *openapi3.Responses
	params    map[string]string
}

// route finds what the document says of a request. HEAD is answered as GET is.
func (c *Checker) route(request *http.Request) (route, error) {
	method := request.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for path, item := range c.doc.Paths.Map() {
		params, ok := match(path, request.URL.EscapedPath())
		if !ok {
			continue
		}
		found := route{checker: c, path: path, item: item, params: params, operation: item.Operations()[method]}
		if found.operation != nil {
			found.responses = found.operation.Responses
			return found, nil
		}
	}
	responses, err := c.unmatched()
	return route{checker: c, responses: responses}, err
}

// match returns the ids in a path if it is one of a template.
func match(template, path string) (map[string]string, bool) {
	names, values := strings.Split(template, "/"), strings.Split(path, "/")
	if len(names) != len(values) {
		return nil, false
	}
	params := map[string]string{}
	for i, name := range names {
		value, err := url.PathUnescape(values[i])
		if err != nil {
			return nil, false
		}
		isParam := strings.HasPrefix(name, "{")
		if isParam && value != "" {
			params[strings.Trim(name, "{}")] = value
		} else if name != value {
			return nil, false
		}
	}
	return params, true
}

// unmatched returns the answers that x-unmatched names.
func (c *Checker) unmatched() (*openapi3.Responses, error) {
	named, _ := c.doc.Extensions["x-unmatched"].(map[string]any)
	responses := &openapi3.Responses{}
	for status, value := range named {
		reference, _ := value.(map[string]any)
		name, _ := reference["$ref"].(string)
		response := c.doc.Components.Responses[strings.TrimPrefix(name, "#/components/responses/")]
		if response == nil {
			return nil, fmt.Errorf("x-unmatched names %q, which is no response", name)
		}
		responses.Set(status, response)
	}
	return responses, nil
}

func (r route) name() string {
	if r.operation == nil {
		return "a route that the document lacks"
	}
	return r.operation.OperationID
}

func (r route) input(request *http.Request) *openapi3filter.RequestValidationInput {
	return &openapi3filter.RequestValidationInput{
		Request: request, PathParams: r.params, QueryParams: request.URL.Query(),
		Route: &routers.Route{Spec: r.checker.doc, Path: r.path, PathItem: r.item, Method: request.Method, Operation: r.operation},
		Options: &openapi3filter.Options{
			MultiError: true, SkipSettingDefaults: true, RejectWhenRequestBodyNotSpecified: true,
			AuthenticationFunc: func(_ context.Context, input *openapi3filter.AuthenticationInput) error {
				if !strings.HasPrefix(input.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ") {
					return errors.New("a request without an API key was accepted")
				}
				return nil
			},
		},
	}
}
