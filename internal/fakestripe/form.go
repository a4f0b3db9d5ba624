package fakestripe

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Stripe's limits of metadata (https://docs.stripe.com/api/metadata), and the
// fake's own limits of a form.
const (
	maxMetadata      = 50
	maxMetadataName  = 40
	maxMetadataValue = 500
	maxFields        = 1000
	maxValue         = 5000
)

// field is a decoded name and value of a form.
type field struct{ name, value string }

// decode decodes a form, in the order of sending. It is stricter than Stripe's
// own parser.
func decode(raw string) ([]field, *apiError) {
	if raw == "" {
		return nil, nil
	}
	var fields []field
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		if errName != nil || errValue != nil || name == "" || !utf8.ValidString(name+value) || strings.Contains(name+value, "\x00") {
			return nil, invalid("", "", "Invalid request: the form cannot be decoded near '%.40q'.", part)
		}
		if fields = append(fields, field{name, value}); len(fields) > maxFields {
			return nil, invalid("", "", "Invalid request: more than %d form fields.", maxFields)
		}
	}
	return fields, nil
}

// canonical returns the form of parameters in their canonical order: sorted by
// name, with the order of equal names kept. Equal parameters have equal forms.
func canonical(fields []field) string {
	sorted := slices.Clone(fields)
	slices.SortStableFunc(sorted, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	pairs := make([]string, 0, len(sorted))
	for _, f := range sorted {
		pairs = append(pairs, url.QueryEscape(f.name)+"="+url.QueryEscape(f.value))
	}
	return strings.Join(pairs, "&")
}

// form is the parameters of a request. Each method reads one of them, and keeps
// the first error in err, so that a handler reads all parameters and checks err
// once.
type form struct {
	scalars map[string]string
	lists   map[string][]item
	hash    map[string]string // metadata; no other parameter is a hash
	err     *apiError
}

// item is a value of a list, at its index.
type item struct {
	index int
	value string
}

// readForm reads the fields that a route accepts: plain names, "name[]" for
// lists, and "metadata" for the hash.
func readForm(fields []field, accepts []string) (*form, *apiError) {
	f := &form{scalars: map[string]string{}, lists: map[string][]item{}, hash: map[string]string{}}
	for _, field := range fields {
		if err := f.add(field, accepts); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// add adds a field to the parameters.
func (f *form) add(in field, accepts []string) *apiError {
	base, rest, nested := strings.Cut(in.name, "[")
	sub, closed := strings.CutSuffix(rest, "]")
	nested = nested && closed && !strings.ContainsAny(sub, "[]")
	switch {
	case base == "metadata" && slices.Contains(accepts, base):
		return f.addMetadata(in, sub, nested)
	case slices.Contains(accepts, in.name) && !strings.HasSuffix(in.name, "[]"):
		return f.addScalar(in)
	case slices.Contains(accepts, base+"[]") && nested:
		return f.addItem(in, base, sub)
	case slices.Contains(accepts, in.name+"[]"):
		return invalid(in.name, "", "Invalid array")
	default:
		return invalid(in.name, "parameter_unknown", "Received unknown parameter: %s", in.name)
	}
}

// addScalar adds a plain parameter.
func (f *form) addScalar(in field) *apiError {
	if _, twice := f.scalars[in.name]; twice {
		return invalid(in.name, "", "The parameter '%s' was sent twice.", in.name)
	}
	if in.value == "" {
		return invalid(in.name, "parameter_invalid_empty", "You passed an empty string for '%[1]s'. "+
			"We assume empty values are an attempt to unset a parameter; however '%[1]s' cannot be unset. "+
			"You should remove '%[1]s' from your request or supply a non-empty value.", in.name)
	}
	if utf8.RuneCountInString(in.value) > maxValue {
		return invalid(in.name, "parameter_invalid_string", "Invalid string: must be at most %d characters.", maxValue)
	}
	f.scalars[in.name] = in.value
	return nil
}

// addItem adds a value of the list base, at the index sub or at the end.
func (f *form) addItem(in field, base, sub string) *apiError {
	index := len(f.lists[base])
	if sub != "" {
		n, err := strconv.ParseUint(sub, 10, 16)
		if err != nil {
			return invalid(in.name, "parameter_unknown", "Received unknown parameter: %s", in.name)
		}
		index = int(n)
	}
	if slices.ContainsFunc(f.lists[base], func(i item) bool { return i.index == index }) {
		return invalid(base, "", "Invalid array")
	}
	f.lists[base] = append(f.lists[base], item{index, in.value})
	return nil
}

// addMetadata adds a field of metadata, within Stripe's limits. "metadata=" and
// an empty value unset something, so they add nothing to a new object.
func (f *form) addMetadata(in field, name string, nested bool) *apiError {
	_, twice := f.hash[name]
	switch {
	case in.name == "metadata" && in.value == "":
		return nil
	case !nested || name == "":
		return invalid("metadata", "", "Invalid object")
	case twice:
		return invalid(in.name, "", "The parameter '%s' was sent twice.", in.name)
	case utf8.RuneCountInString(name) > maxMetadataName:
		return invalid("metadata", "", "Metadata keys can be at most %d characters: '%s'", maxMetadataName, name)
	case utf8.RuneCountInString(in.value) > maxMetadataValue:
		return invalid(in.name, "", "Metadata values can be at most %d characters: '%s'", maxMetadataValue, name)
	case len(f.hash) == maxMetadata:
		return invalid("metadata", "", "You can have at most %d metadata keys.", maxMetadata)
	case in.value != "":
		f.hash[name] = in.value
	}
	return nil
}

// reject keeps an error, unless there is one already.
func (f *form) reject(err *apiError) {
	if f.err == nil {
		f.err = err
	}
}

// has reports whether a plain parameter was sent.
func (f *form) has(name string) bool { return f.scalars[name] != "" }

// text returns a plain parameter, or "" if it was not sent.
func (f *form) text(name string) string { return f.scalars[name] }

// required returns a plain parameter, and rejects the form without it.
func (f *form) required(name string) string {
	if !f.has(name) {
		f.reject(missing(name))
	}
	return f.scalars[name]
}

// integer returns a whole number of at least 1, or 0 if it was not sent. Only
// plain digits count: "5.0", "+5" and "5e0" are errors.
func (f *form) integer(name string) int64 {
	if !f.has(name) {
		return 0
	}
	n, err := strconv.ParseInt(f.text(name), 10, 64)
	switch {
	case err != nil || f.text(name)[0] == '+':
		f.reject(invalid(name, "parameter_invalid_integer", "Invalid integer: %s", f.text(name)))
	case n < 1:
		f.reject(invalid(name, "parameter_invalid_integer", "This value must be greater than or equal to 1."))
	}
	return n
}

// boolean returns a boolean, or false if it was not sent. Older versions of
// Stripe's client for Python send True and False.
func (f *form) boolean(name string) bool {
	v := f.text(name)
	if !slices.Contains([]string{"", "true", "false", "True", "False"}, v) {
		f.reject(invalid(name, "", "Invalid boolean: %s", v))
	}
	return v == "true" || v == "True"
}

// oneOf returns a parameter that must have one of the given values, or "" if it
// was not sent.
func (f *form) oneOf(name string, allowed ...string) string {
	if f.has(name) && !slices.Contains(allowed, f.text(name)) {
		f.reject(invalid(name, "", "Invalid %s: must be one of %s", name, strings.Join(allowed, ", ")))
	}
	return f.text(name)
}

// list returns the values of a list in the order of their indices. Each must be
// one of those allowed.
func (f *form) list(name string, allowed ...string) []string {
	items := f.lists[name]
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.index, b.index) })
	values := make([]string, 0, len(items))
	for _, i := range items {
		if !slices.Contains(allowed, i.value) {
			f.reject(invalid(name, "", "Invalid %s[]: '%s' must be one of %s", name, i.value, strings.Join(allowed, ", ")))
		}
		values = append(values, i.value)
	}
	return values
}

// timestamp returns a time in Unix seconds, and reports whether it was sent.
func (f *form) timestamp(name string) (int64, bool) {
	if !f.has(name) {
		return 0, false
	}
	n, err := strconv.ParseInt(f.text(name), 10, 64)
	if err != nil || n < 0 {
		f.reject(invalid(name, "parameter_invalid_integer", "Invalid timestamp: must be an integer Unix timestamp"))
	}
	return n, true
}
