package web

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A QueryParam is a parameter that a route takes in its query string, at most
// once.
type QueryParam struct {
	Name string
	// Check returns what is wrong with a value as a sentence, or "".
	Check func(value string) string
}

// checkQuery refuses a query string that the route doesn't take, and lists all
// faults, sorted by pointer. An unknown parameter is one of them: if a misspelt
// filter were ignored, the answer would be wrong, and a client that sends
// dry_run=1 would be charged.
func checkQuery(raw string, params []QueryParam) error {
	if raw == "" {
		return nil
	}
	malformed := InvalidParameters([]ParamFault{{Pointer: "", Detail: "The query string is malformed."}})
	values, err := url.ParseQuery(raw)
	if err != nil {
		return malformed
	}
	var faults []ParamFault
	for name, given := range values {
		if !utf8.ValidString(name) { // A pointer can't name it.
			return malformed
		}
		if detail := queryFault(params, name, given); detail != "" {
			faults = append(faults, ParamFault{Pointer: string(jsontext.Pointer("").AppendToken(name)), Detail: detail})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, func(a, b ParamFault) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return InvalidParameters(faults)
}

// queryFault returns what is wrong with one parameter as a sentence, or "".
func queryFault(params []QueryParam, name string, given []string) string {
	at := slices.IndexFunc(params, func(p QueryParam) bool { return p.Name == name })
	switch {
	case at < 0 && len(params) == 0:
		return "Unknown parameter. This route takes none in its query string."
	case at < 0:
		var names []string
		for _, param := range params {
			names = append(names, param.Name)
		}
		return "Unknown parameter. This route takes " + strings.Join(names, ", ") + "."
	case len(given) > 1:
		return "Must be given once."
	default:
		return params[at].Check(given[0])
	}
}
