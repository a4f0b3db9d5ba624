package web

import (
	"net/http"
	"strings"
)

// PrefersAsync reports whether the client asked for respond-async (RFC 7240).
// It ignores all other preferences, as that RFC demands.
func PrefersAsync(header http.Header) bool {
	for _, line := range header.Values("Prefer") {
		for _, preference := range elements(line) {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// elements splits the value of a header at its commas, except those in quoted
// strings (RFC 9110, section 5.6.4): foo="a, respond-async" is one preference.
func elements(line string) []string {
	var all []string
	var quoted, escaped bool
	from := 0
	for i, char := range line {
		switch {
		case escaped:
			escaped = false
		case char == '"':
			quoted = !quoted
		case quoted:
			escaped = char == '\\'
		case char == ',':
			all, from = append(all, line[from:i]), i+1
		}
	}
	return append(all, line[from:])
}
