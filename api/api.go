// Package api is the contract for machines: the OpenAPI document of the public
// listener, and the page that shows it.
//
//   - openapi.yaml: the document, written by hand. Every request and every
//     answer of the HTTP tests is compared with it (package apitest)
//   - examples.json: what the service really answered, by the names that the
//     document's examples have. A test writes it, and holds both equal
//   - docs/: the page, its style and its viewer, RapiDoc
//
// The viewer is the file dist/rapidoc-min.js of the npm package rapidoc 9.3.8,
// unchanged, with the licences of what is in it beside it. It is vendored so
// that the page needs no network.
package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"sync"
)

//go:embed openapi.yaml
var document []byte

//go:embed docs/index.html
var docsPage []byte

//go:embed docs/docs.css
var docsStyle []byte

//go:embed docs/docs.js
var docsScript []byte

//go:embed docs/rapidoc-min.js
var docsViewer []byte

//go:embed examples.json
var examplesSource []byte

// Document returns the OpenAPI document, in YAML.
func Document() []byte { return bytes.Clone(document) }

// DocsPage returns the page that shows the document, in HTML. It loads
// /openapi.yaml and the files of DocsFiles, from /docs/.
func DocsPage() []byte { return bytes.Clone(docsPage) }

// A DocsFile is a file that the page loads.
type DocsFile struct {
	Name, ContentType string
	Body              []byte
}

// DocsFiles returns the files that the page loads. docs.css is also the style
// of the pages of problems.
func DocsFiles() []DocsFile {
	return []DocsFile{
		{"docs.css", "text/css; charset=utf-8", bytes.Clone(docsStyle)},
		{"docs.js", "text/javascript; charset=utf-8", bytes.Clone(docsScript)},
		{"rapidoc-min.js", "text/javascript; charset=utf-8", bytes.Clone(docsViewer)},
	}
}

// examples are decoded once.
//
//nolint:gochecknoglobals // made once, and nothing writes to it
var examples = sync.OnceValue(func() map[string]json.RawMessage {
	var decoded map[string]json.RawMessage
	if err := json.Unmarshal(examplesSource, &decoded); err != nil {
		panic("api: examples.json: " + err.Error())
	}
	return decoded
})

// Example returns what the service really answered, by a name that the examples
// of the document have, or null. That of a problem has the name of its code.
func Example(name string) json.RawMessage {
	example, ok := examples()[name]
	if !ok {
		return json.RawMessage("null")
	}
	return bytes.Clone(example)
}
