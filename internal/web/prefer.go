package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWait is the most that a client may ask to wait for an answer. One that
// asks for more gets this much.
const maxWait = 30 * time.Second

// Preferences are what a client would like, and can do without (RFC 7240).
type Preferences struct {
	// Async is respond-async (section 4.1): the client takes a 202 rather than
	// wait for the end of what it asked for.
	Async bool
	// Wait is how long the client would wait for that end (section 4.3): whole
	// seconds, at most 30. 0 means that it named no such time.
	Wait time.Duration
}

// ReadPreferences returns the preferences of a request. It ignores those that
// it doesn't know or can't read, as the RFC demands. Of a preference that is
// given several times, the first counts (section 2).
func ReadPreferences(header http.Header) Preferences {
	var p Preferences
	seen := map[string]bool{}
	for _, line := range header.Values("Prefer") {
		for _, preference := range elements(line, ',') {
			name, value, _ := strings.Cut(elements(preference, ';')[0], "=")
			name, value = strings.ToLower(strings.Trim(name, " \t")), unquote(strings.Trim(value, " \t"))
			if seen[name] {
				continue
			}
			seen[name] = true
			switch name {
			case "respond-async":
				p.Async = value == ""
			case "wait":
				p.Wait = readWait(value)
			}
		}
	}
	return p
}

// readWait returns the time of a preference wait, or 0 if it has none.
func readWait(value string) time.Duration {
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0
	}
	seconds, err := strconv.Atoi(value)
	if err != nil || seconds > int(maxWait/time.Second) { // err: too many digits for an int
		return maxWait
	}
	return time.Duration(seconds) * time.Second
}

// SetApplied tells the client which of its preferences were applied. If none
// were, it does nothing.
func SetApplied(w http.ResponseWriter, p Preferences) {
	if p == (Preferences{}) {
		return
	}
	var applied []string
	if p.Async {
		applied = append(applied, "respond-async")
	}
	if p.Wait > 0 {
		applied = append(applied, "wait="+strconv.Itoa(int(p.Wait/time.Second)))
	}
	w.Header().Set("Preference-Applied", strings.Join(applied, ", "))
	if w.Header().Get("Vary") == "" {
		w.Header().Set("Vary", "Prefer")
	}
}

// elements splits a header's value, or an element of it, at a separator, except
// in quoted strings (RFC 9110, section 5.6.4): foo="a, respond-async" is one
// preference.
func elements(value string, separator rune) []string {
	var all []string
	var quoted, escaped bool
	from := 0
	for i, char := range value {
		switch {
		case escaped:
			escaped = false
		case char == '"':
			quoted = !quoted
		case quoted:
			escaped = char == '\\'
		case char == separator:
			all, from = append(all, value[from:i]), i+1
		}
	}
	return append(all, value[from:])
}

// unquote returns what a quoted string stands for, and any other text as it is.
func unquote(text string) string {
	inner, found := strings.CutPrefix(text, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if !found || !closed {
		return text
	}
	var plain strings.Builder
	escaped := false
	for _, char := range inner {
		if escaped = char == '\\' && !escaped; !escaped {
			plain.WriteRune(char)
		}
	}
	if escaped { // so was the last quotation mark: the string has no end
		return text
	}
	return plain.String()
}
