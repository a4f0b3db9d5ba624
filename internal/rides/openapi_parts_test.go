package rides

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

// A part of the document: one of its operations, responses, headers, parameters
// or properties, or of the media types of an answer.
type part struct {
	of     string // the word in the document under which it stands
	name   string
	remove func() (restore func())
}

// entry returns the part that is an entry of a map.
func entry[V any](of, name string, all map[string]V, key string) part {
	return part{of: of, name: key + " of " + name, remove: func() func() {
		value := all[key]
		delete(all, key)
		return func() { all[key] = value }
	}}
}

// parts returns every part of the document that may contradict an exchange if
// it is missing.
func parts(doc *openapi3.T) []part {
	var all []part
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + path
			all = append(all, part{of: "paths", name: name, remove: func() func() {
				item.SetOperation(method, nil)
				return func() { item.SetOperation(method, operation) }
			}})
			all = append(all, operationParts(name, operation)...)
			for status, response := range operation.Responses.Map() {
				all = append(all, part{of: "responses", name: status + " of " + name, remove: func() func() {
					operation.Responses.Delete(status)
					return func() { operation.Responses.Set(status, response) }
				}})
				all = append(all, responseParts(status+" of "+name, response)...)
			}
			for name, callback := range operation.Callbacks {
				for _, item := range callback.Value.Map() {
					all = append(all, operationParts(name, item.Post)...)
				}
			}
		}
	}
	unmatched, _ := doc.Extensions["x-unmatched"].(map[string]any)
	for status := range unmatched {
		all = append(all, entry("x-unmatched", "x-unmatched", unmatched, status))
	}
	for name, response := range doc.Components.Responses {
		all = append(all, responseParts(name, response)...)
	}
	for name, schema := range doc.Components.Schemas {
		if name != "StripeEvent" { // it may have anything besides: internal/payments
			all = append(all, schemaParts(name, schema)...)
		}
	}
	return all
}

func operationParts(name string, operation *openapi3.Operation) []part {
	var all []part
	for i, parameter := range operation.Parameters {
		all = append(all, part{of: "parameters", name: parameter.Value.Name + " of " + name, remove: func() func() {
			whole := operation.Parameters
			operation.Parameters = slices.Delete(slices.Clone(whole), i, i+1)
			return func() { operation.Parameters = whole }
		}})
	}
	if operation.RequestBody != nil {
		for mediaType := range operation.RequestBody.Value.Content {
			all = append(all, entry("content", name, operation.RequestBody.Value.Content, mediaType))
		}
	}
	return all
}

// responseParts returns the parts of a response that isn't named elsewhere.
func responseParts(name string, response *openapi3.ResponseRef) []part {
	if response.Ref != "" {
		return nil
	}
	var all []part
	for header := range response.Value.Headers {
		all = append(all, entry("headers", name, response.Value.Headers, header))
	}
	for mediaType, content := range response.Value.Content {
		all = append(all, entry("content", name, response.Value.Content, mediaType))
		all = append(all, schemaParts(name, content.Schema)...)
	}
	return all
}

// schemaParts returns the properties of a schema that isn't named elsewhere.
func schemaParts(name string, schema *openapi3.SchemaRef) []part {
	if schema == nil || schema.Ref != "" {
		return nil
	}
	var all []part
	for property, inner := range schema.Value.Properties {
		all = append(all, entry("properties", name, schema.Value.Properties, property))
		all = append(all, schemaParts(name+"'s "+property, inner)...)
	}
	for _, inner := range slices.Concat(schema.Value.AllOf, schema.Value.OneOf, schema.Value.AnyOf, openapi3.SchemaRefs{schema.Value.Items}) {
		all = append(all, schemaParts(name, inner)...)
	}
	return all
}

// written counts the parts in the text of the document, each under the word
// under which it stands.
func written(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	components, _ := document["components"].(map[string]any)
	for _, named := range []string{"headers", "parameters", "examples"} { // nothing refers to one that is missing: it doesn't load
		delete(components, named)
	}
	schemas, _ := components["schemas"].(map[string]any)
	delete(schemas, "StripeEvent")
	counts := map[string]int{}
	countParts(counts, document)
	paths, _ := document["paths"].(map[string]any)
	responses, _ := components["responses"].(map[string]any)
	counts["responses"] -= len(responses) // likewise
	counts["paths"] = 0
	for _, item := range paths {
		methods, _ := item.(map[string]any)
		counts["paths"] += len(methods)
	}
	return counts
}

// countParts adds up the entries of each map and list that has the name of a
// kind of part.
func countParts(counts map[string]int, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if key == "responses" && value["operationId"] == "rideEnded" { // they are of another server: internal/jobs
				continue
			}
			entries, _ := inner.(map[string]any)
			list, _ := inner.([]any)
			switch key {
			case "responses", "headers", "content", "parameters", "properties", "x-unmatched":
				counts[key] += len(entries) + len(list)
			}
			countParts(counts, inner)
		}
	case []any:
		for _, inner := range value {
			countParts(counts, inner)
		}
	}
}

// problemsWithoutCodes returns an error if an answer that is a problem does not
// say with which codes, or has an example with another one.
func problemsWithoutCodes(doc *openapi3.T) error {
	check := func(name string, response *openapi3.ResponseRef) error {
		content := response.Value.Content["application/problem+json"]
		if content == nil {
			return nil
		}
		var codes []any
		for _, schema := range content.Schema.Value.AllOf {
			if code := schema.Value.Properties["code"]; schema.Ref == "" && code != nil {
				codes = code.Value.Enum
			}
		}
		for example, ref := range content.Examples {
			body, _ := ref.Value.Value.(map[string]any)
			if !slices.Contains(codes, body["code"]) {
				return fmt.Errorf("%s has the codes %v, and the example %s", name, codes, example)
			}
		}
		return nil
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				if err := check(method+" "+path+" "+status, response); err != nil {
					return err
				}
			}
		}
	}
	for name, response := range doc.Components.Responses {
		if err := check(name, response); err != nil {
			return err
		}
	}
	return nil
}
