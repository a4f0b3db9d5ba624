package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// A File is an answer that is the same for everybody and changes only with the
// program.
type File struct {
	contentType string
	body        []byte
	policy      string // Content-Security-Policy, "" for what is no page
	tag         string // ETag
}

// NewFile returns a file with a media type and a body, which must not change.
func NewFile(contentType string, body []byte) File {
	digest := sha256.Sum256(body)
	return File{contentType: contentType, body: body, tag: `"` + hex.EncodeToString(digest[:16]) + `"`}
}

// NewPage returns a page in HTML that may load what its Content-Security-Policy
// says, and may be shown in no frame.
func NewPage(body []byte, policy string) File {
	page := NewFile("text/html; charset=utf-8", body)
	page.policy = policy + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return page
}

// fileAge is how long a file may be used without asking whether it has changed.
// It is short, because a release changes several files that belong together.
const fileAge = "public, max-age=300"

// AnswerFile answers with a file, or with 304 if the client has it.
func AnswerFile(w http.ResponseWriter, r *Request, file File) error {
	w.Header().Set("Cache-Control", fileAge)
	w.Header().Set("ETag", file.tag)
	if hasTag(r.Header, file.tag) {
		r.record.status = http.StatusNotModified
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if file.policy != "" {
		w.Header().Set("Content-Security-Policy", file.policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
	}
	w.Header().Set("Content-Type", file.contentType)
	answer(w, r, http.StatusOK, file.body)
	return nil
}

// hasTag reports whether the client has what a tag names (RFC 9110, section
// 13.1.2). Proxies that compress make a tag a weak one.
func hasTag(header http.Header, tag string) bool {
	for _, line := range header.Values("If-None-Match") {
		for _, given := range elements(line, ',') {
			given = strings.TrimPrefix(strings.Trim(given, " \t"), "W/")
			if given == tag || given == "*" {
				return true
			}
		}
	}
	return false
}
