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

// TraceabilityID is the client's own name for what it does, by which it finds
// this request in its log and in ours. It is "" where there is none, and where
// it is too long or not printable: a header that is optional refuses no ride.
func TraceabilityID(header http.Header) string {
	id := only(header, "X-Traceability-Id")
	if !IsPrintable(id, maxTraceabilityID) {
		return ""
	}
	return id
}

// TraceID is the trace that a request belongs to by its traceparent (W3C Trace
// Context, section 3.2, version 00). It is "" where there is none, and where
// any part of the header is malformed, which must then be ignored as a whole.
func TraceID(header http.Header) string {
	parent := only(header, "Traceparent")
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

// isTraceField tells whether a field is an id of that many digits. One of
// nothing but zeroes is none.
func isTraceField(field string, digits int) bool {
	return len(field) == digits && isLowerHex(field) && strings.Trim(field, "0") != ""
}

func isLowerHex(field string) bool { return strings.Trim(field, "0123456789abcdef") == "" }

// only is the value of a header that was sent once, else "": of two values
// nobody knows which was meant.
func only(header http.Header, name string) string {
	if lines := header.Values(name); len(lines) == 1 {
		return lines[0]
	}
	return ""
}

// IsPrintable tells whether a value has 1 to most characters, all of them
// printable ASCII.
func IsPrintable(value string, most int) bool {
	outside := func(char rune) bool { return char < 0x20 || char > 0x7E }
	return value != "" && len(value) <= most && !strings.ContainsFunc(value, outside)
}
