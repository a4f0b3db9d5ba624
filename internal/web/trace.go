package web

import (
	"net/http"
	"strings"
)

const (
	// maxTraceabilityID is how many characters an X-Traceability-Id may have.
	maxTraceabilityID = 128
	// traceparentLength is how many characters a traceparent of version 00 has.
	traceparentLength = 55
)

// traceabilityID returns the value of X-Traceability-Id: the client's own name
// for what it does, by which it finds this request in its log and in ours. It
// is "" if there is none, or if it is too long or not printable: an optional
// header is no reason to refuse a request.
func traceabilityID(header http.Header) string {
	id := single(header, "X-Traceability-Id")
	if !IsPrintable(id, maxTraceabilityID) {
		return ""
	}
	return id
}

// traceID returns the id of the trace that a request belongs to, from its
// traceparent (W3C Trace Context, section 3.2, version 00). It is "" if there
// is none, or if any part of the header is malformed: then all of it is
// ignored.
func traceID(header http.Header) string {
	parent := single(header, "Traceparent")
	if len(parent) != traceparentLength {
		return ""
	}
	fields := strings.Split(parent, "-")
	if len(fields) != 4 || fields[0] != "00" || !isTraceField(fields[1], 32) || !isTraceField(fields[2], 16) ||
		!isLowerHex(fields[3]) {
		return ""
	}
	return fields[1]
}

// isTraceField reports whether a field is an id of the given number of digits.
// An id of zeroes only is invalid.
func isTraceField(field string, digits int) bool {
	return len(field) == digits && isLowerHex(field) && strings.Trim(field, "0") != ""
}

func isLowerHex(field string) bool { return strings.Trim(field, "0123456789abcdef") == "" }

// single returns the value of a header that was sent once. It is "" if the
// header was sent twice: nobody knows which value was meant.
func single(header http.Header, name string) string {
	if lines := header.Values(name); len(lines) == 1 {
		return lines[0]
	}
	return ""
}

// IsPrintable reports whether a value has 1 to limit characters, all of them
// printable ASCII.
func IsPrintable(value string, limit int) bool {
	outside := func(char rune) bool { return char < 0x20 || char > 0x7E }
	return value != "" && len(value) <= limit && !strings.ContainsFunc(value, outside)
}
